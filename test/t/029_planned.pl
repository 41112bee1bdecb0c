# elector_switchover(): what it checks, waits for, returns; for later, canceled,
# while the cluster is paused, and with transactions under way.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');

sub switchover
{
	my ($node, $arguments, %opts) = @_;
	return $cluster->try_psql($node, "SELECT * FROM elector_switchover($arguments)", timeout => 60, %opts);
}

sub refused
{
	my ($arguments, $why, $what, %opts) = @_;
	foreach my $node ($opts{on} // $cluster->nodes)
	{
		my $result = switchover($node, $arguments);
		ok(!$result->{ok}, "$what, asked on $node: an error");
		like($result->{err}, $why, "$what, asked on $node: that says why");
	}
	return;
}

# Only a check, once all have said how they are.
$cluster->poll_until(sub { my $from = $_; switchover($from, 'dry_run => true')->{ok} }, 20, "$_ to hear of the others")
  foreach $cluster->nodes;
foreach my $node ($cluster->nodes)
{
	is(switchover($node, "'n3', dry_run => true")->{out}, 'n3||', "a dry run on $node names who would lead");
	like(switchover($node, 'dry_run => true')->{out}, qr/^n[23]\|\|$/, "a dry run on $node chooses");
}

# Whatever speaks against it is said at once, and what to do.
refused("'nobody'", qr/"nobody": the target is no member/, 'an unknown target');
refused("'no body'", qr/22023: "no body" is not the name of a node/, 'no name', on => 'n1');
refused("'n1'", qr/the target is the leader already/, 'the leader itself');
refused("'n2', timeout => '-1 s'", qr/22023: the timeout must be/, 'a timeout of less than nothing', on => 'n1');
refused("'n2', at => now() - interval '1 s'", qr/22023: the time of the switchover is not in the future/,
	'a time that is over', on => 'n1');
is($cluster->try_psql('n1', "SET ROLE app; SELECT elector_$_")->{sqlstate}, '42501', "elector_$_ is not for everybody")
  foreach qw(switchover() cancel_switchover() pause() resume());

$cluster->reload_line('n2', 'pg_elector.candidate', 'off');
$cluster->poll_until(sub { switchover('n1', "'n2', dry_run => true")->{err} =~ /no candidate/ }, 10, 'n2 to be no candidate');
refused("'n2'", qr/no candidate; set pg_elector.candidate = on there/, 'a target that is no candidate');
is(switchover('n1', 'dry_run => true')->{out}, 'n3||', 'is not chosen, either');
$cluster->reload_line('n2', 'pg_elector.candidate', 'on');
$cluster->remember('n2');

$cluster->stop('n3');
refused("'n3'", qr/the target is not alive; start it first|the target does not answer/, 'a target that is stopped', on => $_)
  foreach qw(n1 n2);
$cluster->start('n3');
$cluster->wait_for_follower('n3');
$cluster->remember('n3');

# Cut off from the leader it gets no WAL, but can be asked.
$cluster->cut('n3', from => ['n1']);
$cluster->psql('n1', q{SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 3)});
$cluster->poll_until(sub { switchover('n2', "'n3', dry_run => true")->{err} =~ /further behind|not stream/ }, 20, 'n3 to be behind');
refused("'n3'", qr/further behind the leader than pg_elector.maximum_lag|does not stream from the leader/, 'a target that is behind', on => 'n2');
$cluster->heal('n3');
$cluster->wait_for_follower('n3', 60);

ok($cluster->is_leader('n1'), 'nothing has changed');
is($cluster->term('n1'), $term, 'nor has the term');

# On another node than the leader it waits and tells the pause.
my $pid   = $cluster->postmaster_pid('n1');
my $since = now_us();
my $done  = switchover('n3', "'n2'");
my $took  = (now_us() - $since) / 1000;
like($done->{out}, qr/^n2\|\d+\|\d+$/, 'asked on a third node: who leads, the term and the pause')
  or diag($done->{err});
my (undef, $new_term, $pause) = split /\|/, $done->{out};
is($new_term, ++$term, 'the next term');
cmp_ok($pause, '>', 0, "a pause ($pause ms)");
cmp_ok($pause, '<', $took, 'no longer than the call');
ok($cluster->is_leader('n2'), 'the new leader takes writes when it returns');
my ($row) = grep { $_->{term} == $term } $cluster->query_history('n2');
is($row->{pause_ms}, $pause, 'elector_history tells the same');
my $sum = 0;
$sum += $row->{"${_}_ms"} // -1000 foreach qw(notice lock revoke choose establish promote open);
is($sum, $pause, 'as the sum of its phases');
is($row->{reason}, 'switchover', 'and why');
is($row->{revoked}, 'handed over', 'and how');
$writer->wait_for_acks(20);
my $gap = $writer->longest_gap(since => $since);
cmp_ok($pause, '<=', $gap + 5, "no more than what a client sees ($gap ms)");
$cluster->wait_for_follower('n1');
is($cluster->postmaster_pid('n1'), $pid, 'the old leader follows in the same process');
unlike($cluster->log_since('n1'), qr/rewind/, 'without a rewind');

# On the target, too.
$done = switchover('n1', "'n1'");
like($done->{out}, qr/^n1\|@{[++$term]}\|\d+$/, 'asked on the target');
$cluster->wait_for_follower('n2');

# On the leader the session would end; without waiting it returns as well.
like(switchover('n2', "'n2', wait => false")->{out}, qr/^n2\|\|$/, 'without waiting: who will lead');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'and it does');
$cluster->wait_for_follower('n1');
like(switchover('n2', "'n1'")->{out}, qr/^n1\|\|$/, 'asked on the leader: who will lead');
is($cluster->wait_for_leader(exclude => 'n2'), 'n1', 'and it does');
$cluster->wait_for_follower('n2');
$term += 2;

# For later, and not for two at once.
my $at = $cluster->psql('n2', q{SELECT clock_timestamp() + interval '3 s'});
is(switchover('n2', "'n3', at => '$at'")->{out}, 'n3||', 'scheduled');
refused("'n2'", qr/another change is under way/, 'beside one that is scheduled', on => 'n1');
like($cluster->wait_for_status('n3', 'n1', { detail => qr/switchover/ })->{detail}, qr/scheduled/, 'elector_status shows it');
is($cluster->wait_for_leader(exclude => 'n1'), 'n3', 'it takes place');
is($cluster->psql('n3', "SELECT opened_at >= '$at' FROM elector_history WHERE term = " . ++$term), 't', 'not before its time');
$cluster->wait_for_follower('n1');

is(switchover('n1', "'n1', at => now() + interval '1 h'")->{out}, 'n1||', 'scheduled');
is($cluster->psql('n2', 'SELECT elector_cancel_switchover()'), 't', 'and canceled on another node');
is($cluster->psql('n2', 'SELECT elector_cancel_switchover()'), 'f', 'once');
is(switchover('n1', "'n1', dry_run => true")->{out}, 'n1||', 'makes room for another');

# Who waits hears that it was canceled.
$cluster->reload_line('n3', 'pg_elector.drain_timeout', '30s');
my $busy = $cluster->session('n3');
$busy->query('BEGIN');
ok($busy->query('INSERT INTO rows (n) VALUES (-7)')->{ok}, 'a transaction is under way');
my $operator = $cluster->session('n1', user => 'postgres');
my $blocked = $cluster->session('n3');
$operator->send(q{SELECT elector_switchover('n2')});
$cluster->poll_until(
	sub {
		$blocked->send('SELECT 1');
		my $answer = $blocked->finish(1);
		return $answer->{timed_out};
	},
	10, 'a new transaction to wait');
is($cluster->psql('n2', 'SELECT elector_cancel_switchover()'), 't', 'a switchover is canceled while it drains');
my $heard = $operator->finish(10);
like($heard->{err}, qr/it was canceled on node "n2"/, 'who waits for it hears that');
ok($blocked->finish(10)->{ok}, 'the transaction that waited goes on');
ok($busy->query('COMMIT')->{ok}, 'and the one that was under way');

# A transaction that is under way may end.
$busy->query('BEGIN');
ok($busy->query('INSERT INTO rows (n) VALUES (-9)')->{ok}, 'a transaction is under way');
$operator->send(q{SELECT elector_switchover('n2')});
$cluster->poll_until(sub { $blocked->send('SELECT 1'); $blocked->finish(1)->{timed_out} }, 10, 'a new transaction to wait');
ok($cluster->is_leader('n3'), 'the leader waits');
ok($busy->query('COMMIT')->{ok}, 'the transaction ends, and its commit is acknowledged');
like($operator->finish(20)->{out}, qr/^\(n2,\d+,\d+\)$/, 'then the switchover takes place');
is($cluster->psql('n2', 'SELECT count(*) FROM rows WHERE n = -9'), 1, 'the row is there');
$cluster->wait_for_follower('n3');
$cluster->reload_line('n3', 'pg_elector.drain_timeout', '100ms');
$cluster->remember('n3');

# For no longer than it is said.
ok(switchover('n1', "'n3'")->{ok}, 'back');
$cluster->wait_for_follower('n2');
$busy = $cluster->session('n3');
$busy->query('BEGIN');
ok($busy->query('INSERT INTO rows (n) VALUES (-10)')->{ok}, 'a transaction does not end');
like(switchover('n1', "'n1'")->{out}, qr/^n1\|/, 'the switchover does not wait for ever');
ok(!$busy->query('COMMIT')->{ok}, 'the transaction is lost');
$cluster->wait_for_follower('n3');

# Somebody does not want it just now.
my $hold = $cluster->psql('n2', q{SELECT elector_hold('nightly backup', '10 min')});
is($cluster->psql('n2', "SELECT elector_hold_valid($hold)"), 't', 'the leader is held');
$cluster->poll_until(sub { $cluster->psql('n3', "SELECT elector_hold_valid($hold)") eq 't' }, 10, 'n3 to hear of it');
refused("'n2'", qr/hold $hold, taken on "n2", .* nightly backup; .* elector_release\($hold\)/, 'while it is held', on => 'n3');
like($cluster->wait_for_status('n3', 'n1', { detail => qr/hold/ })->{detail}, qr/hold $hold of n2 until .*nightly backup/, 'elector_status shows it');
is($cluster->psql('n1', "SELECT elector_release($hold)"), 't', 'released on another node');
is($cluster->psql('n1', "SELECT elector_release($hold)"), 'f', 'once');
is($cluster->psql('n1', "SELECT elector_hold_valid($hold)"), 'f', 'then it is not good any more');
$hold = $cluster->psql('n2', q{SELECT elector_hold('short', '1 s')});
$cluster->poll_until(sub { $cluster->psql('n1', "SELECT elector_hold_valid($hold)") eq 'f' }, 10, 'a hold to end by itself');
is(switchover('n3', "'n2', dry_run => true")->{out}, 'n2||', 'a hold ends by itself');
$hold = $cluster->psql('n2', q{SELECT elector_hold('in the way of a failover', '10 min')});
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1') ne 'n1', 1, 'a failover happens all the same');
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->remember('n1');
is($cluster->psql($cluster->wait_for_leader, "SELECT elector_hold_valid($hold)"), 'f', 'and ends the hold');
ok(switchover('n1', "'n1'")->{ok}, 'and planned changes are possible');
$cluster->wait_for_follower($_) foreach qw(n2 n3);

# While the cluster is paused its leader stays where it is.
is($cluster->psql('n2', q{SELECT elector_pause('maintenance of the racks')}), 't', 'paused');
is($cluster->psql('n3', 'SELECT elector_pause()'), 'f', 'once');
refused("'n2'", qr/the cluster is paused; resume it with elector_resume\(\) first/, 'while it is paused', on => 'n3');
like($cluster->wait_for_status('n3', 'n1', { detail => qr/paused/ })->{detail},
	qr/paused until elector_resume\(\), by "n2" at .* maintenance of the racks/, 'elector_status shows by whom, when and why');
$term = $cluster->term('n1');
$cluster->restart('n1');
$cluster->remember('n1');
is($cluster->wait_for_leader, 'n1', 'a leader that is restarted leads again');
is($cluster->term('n1'), ++$term, 'in the next term');
$cluster->wait_for_follower($_) foreach qw(n2 n3);
$cluster->kill_postmaster('n1');
$cluster->wait_for_no_process('n1');
$cluster->wait_for_status('n2', 'n2', { state => 'paused' });
$cluster->wait_for_status('n3', 'n3', { state => 'paused' });
$cluster->poll_until(
	sub { $cluster->psql('n3', q{SELECT blocked || coalesce(blocked_until::text, '') FROM elector_history ORDER BY term DESC LIMIT 1}) eq 'paused' },
	5, 'the history to say what is blocked');
is($cluster->leader(exclude => 'n1'), undef, 'nobody replaces one that is killed');
is($cluster->psql('n2', 'SELECT elector_resume()'), 't', 'resumed');
my $next = $cluster->wait_for_leader(exclude => 'n1');
ok(defined $next, 'then somebody does');
is($cluster->psql($next, 'SELECT elector_resume()'), 'f', 'once');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->remember('n1');

$cluster->check_end('planned', $writer, $probers, losses => 1);
$cluster->check_history('planned');
done_testing();
