# A durability policy: comes into force, is kept over failovers, changed while running,
# and what is acknowledged under it is never lost.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(kill_and_wait spawn);
use Test::More;

my $cluster = ElectorCluster->new(
	nodes    => 3,
	ttl      => '4s',
	settings => {
		'pg_elector.durability' => 'any 1', 'pg_elector.follower_timeout' => '5s',
		wal_level => 'logical' })->build;

sub durability
{
	my ($node) = @_;
	return map { JSON::PP::decode_json($_) } split /\n/,
	  $cluster->psql($node, 'SELECT row_to_json(d) FROM elector_durability AS d ORDER BY node');
}

# The rule and its members are as wanted, on a node.
sub wait_for_rule
{
	my ($asked, $rule, @members) = @_;
	my $found = '';

	return $cluster->poll_until(
		sub {
			my @rows = durability($asked);
			$found = join ' ', $rows[0]{rule}, $rows[0]{next} // '-', map { $_->{node} } grep { $_->{member} } @rows;
			return $found eq join ' ', $rule, '-', @members;
		},
		30, "rule $rule with @members on $asked");
}

wait_for_rule($_, 'any 1', qw(n1 n2 n3)) foreach $cluster->nodes;
my ($row) = durability('n2');
ok($row->{safe}, 'a failover would lose nothing');
is($row->{missing}, undef, 'nobody is missing');
is($cluster->psql('n1', 'SHOW synchronous_standby_names'), 'ANY 1 ("n2","n3")', 'synchronous_standby_names');
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
$writer->wait_for_acks(50);

# The leader dies with what it had not sent.
foreach my $time (1 .. 3)
{
	my $old = $cluster->wait_for_leader;
	$cluster->kill_all($old);
	my $new = $cluster->wait_for_leader(exclude => $old);
	$writer->wait_for_acks(50);
	ok(defined $new, "failover $time: $new leads");
	$cluster->revive($old);
	$cluster->start($old);
	$cluster->wait_for_follower($old, 60);
	$cluster->remember($old);
	wait_for_rule($new, 'any 1', qw(n1 n2 n3));
}

# One follower gone: the other acknowledges; after a while the rule does without it.
my $leader = $cluster->wait_for_leader;
my ($kept, $gone) = grep { $_ ne $leader } $cluster->nodes;
$cluster->kill_all($gone);
$writer->wait_for_acks(50);
wait_for_rule($leader, 'any 1', sort $leader, $kept);
($row) = durability($leader);
ok($row->{safe}, 'then a failover needs it no more');

# Now the leader, too: the last one has everything.
$cluster->kill_all($leader);
is($cluster->poll_until(sub { $cluster->status_of($kept, $kept)->{role} eq 'leader' ? $kept : undef }, 20, 'the last one to lead'),
	$kept, 'the last one leads');
like($cluster->wait_for_status($kept, $kept, { detail => qr/acknowledged the beginning/ })->{state}, qr/opening/,
	'but opens only when somebody has acknowledged its beginning');
ok(!$cluster->try_psql($kept, 'INSERT INTO rows (n) VALUES (-1)', user => 'app')->{ok}, 'it takes no write');
foreach my $node ($leader, $gone)
{
	$cluster->revive($node);
	$cluster->start($node);
}
is($cluster->wait_for_leader(timeout => 60), $kept, 'when a follower is back it does');
foreach my $node ($leader, $gone)
{
	$cluster->wait_for_follower($node, 60);
	$cluster->remember($node);
}
wait_for_rule($kept, 'any 1', qw(n1 n2 n3));

# Both followers gone: commits wait, and nothing is acknowledged; nor is there a
# failover without those who may have acknowledged.
$leader = $kept;
my @followers = grep { $_ ne $leader } $cluster->nodes;
$cluster->kill_all($_) foreach @followers;
my $waiting = $cluster->session($leader);
$waiting->send('INSERT INTO rows (n) VALUES (-2)');
ok($waiting->finish(3)->{timed_out}, 'without followers a commit waits');
$row = (durability($leader))[0];
ok(!$row->{safe}, 'a failover would not be safe');
is($row->{missing}, join(', ', @followers), 'who is missing');
$cluster->revive($_), $cluster->start($_) foreach @followers;
ok($waiting->finish(60)->{ok}, 'and is acknowledged when one is back');
$cluster->wait_for_follower($_, 60), $cluster->wait_until_counts($_), $cluster->remember($_) foreach @followers;

# Leader and one follower gone: who is left may lack what the two had.
$cluster->kill_all($leader);
$cluster->kill_all($followers[0]);
like($cluster->wait_for_status($followers[1], $followers[1], { detail => qr/commits may be on/ }, 30)->{detail},
	qr/"$followers[0]".*elector_failover/, 'the one that is left waits, and says for whom');
is($cluster->leader(exclude => [ $leader, $followers[0] ]), undef, 'and does not lead');

# Unless an operator gives it up, who knows that the old leader does not go on elsewhere.
my $asked = $cluster->try_psql($followers[1], 'SELECT * FROM elector_failover(accept_data_loss => true)', timeout => 60);
like($asked->{err}, qr/55000.*the old leader may go on without etcd.*elector_remove_member\(\)/, 'elector_failover() wants to know that the old leader is gone');
is($cluster->leader(exclude => [ $leader, $followers[0] ]), undef, 'and does nothing');
$cluster->remove_dead($followers[1], $leader);
$asked = $cluster->try_psql($followers[1], 'SELECT * FROM elector_failover()', timeout => 60);
like($asked->{err}, qr/55000.*acknowledged commits may be lost: \d+ bytes of WAL .* accept_data_loss => true/, 'elector_failover() says what may be lost');
is($cluster->leader(exclude => [ $leader, $followers[0] ]), undef, 'and does nothing');
is($cluster->try_psql($followers[1], "SET ROLE app; SELECT elector_failover(accept_data_loss => true)")->{sqlstate}, '42501', 'it is not for everybody');

$cluster->revive($followers[0]);
$cluster->start($followers[0]);
my $next = $cluster->wait_for_leader(exclude => $leader, timeout => 60);
ok(defined $next, 'with the other one back, one of them leads');
$cluster->revive($leader);
$cluster->start($leader);
foreach my $node (grep { $_ ne $next } $cluster->nodes)
{
	$cluster->wait_for_follower($node, 60);
	$cluster->remember($node);
}

# The policy is changed, one node after the other, while somebody decodes and somebody
# makes a backup: the ones that acknowledge are others.
my @others = map {
	spawn({ log => $cluster->log('n1') }, $cluster->as_user('n1'), $cluster->bindir . '/' . shift @$_,
		'-h', $cluster->address($cluster->wait_for_leader), '-U', 'postgres', @$_)
} ([qw(pg_recvlogical -d postgres --slot=decoded --create-slot --start -P test_decoding -f /dev/null)],
	[ qw(pg_basebackup -X none --max-rate=32k -c fast -D), "$cluster->{base}/backup" ]);
$cluster->poll_until(
	sub {
		$cluster->psql($cluster->wait_for_leader, q{SELECT string_agg(state, ' ' ORDER BY state) FROM pg_stat_replication
			WHERE application_name !~ '^n[123]$'}) eq 'backup streaming';
	},
	20, 'the others');
foreach my $policy ('any 2', 'async', 'any 1')
{
	my $now = $cluster->wait_for_leader;
	$cluster->reload_line($_, 'pg_elector.durability', $policy) foreach $cluster->nodes;
	wait_for_rule($now, $policy, $policy eq 'async' ? () : qw(n1 n2 n3));
	$writer->wait_for_acks(20);
	$cluster->remember($_) foreach $cluster->nodes;
}
ok((kill 0, $_), 'whoever else replicates went on') foreach @others;
kill_and_wait('KILL', @others);

# A follower comes back while the leader takes its last connection for alive.  Two
# walsenders of one follower would be two acknowledgements.
my $now = $cluster->wait_for_leader;
my ($back) = grep { $_ ne $now } $cluster->nodes;
my $walsender = $cluster->psql($now, "SELECT pid FROM pg_stat_replication WHERE application_name = '$back'");
kill 'STOP', $walsender;
kill 'TERM', $cluster->psql($back, 'SELECT pid FROM pg_stat_wal_receiver');
$cluster->poll_until(sub { $cluster->find_processes($now, qr/walsender .* (startup|authentication)/) }, 20,
	'the follower to come back');
is($cluster->psql($now, "SELECT pid FROM pg_stat_replication WHERE application_name = '$back'"), $walsender,
	'it has one walsender');
kill 'CONT', $walsender;
$cluster->poll_until(
	sub {
		my $pid = $cluster->psql($now, "SELECT pid FROM pg_stat_replication WHERE application_name = '$back' AND state = 'streaming'");
		return $pid ne '' && $pid ne $walsender;
	},
	20, 'the follower to stream');
like($cluster->run_on('n1', {}, 'pg_receivewal', '-D', "$cluster->{base}/backup", '-d',
		'host=' . $cluster->address($now) . " user=postgres application_name=\U$back\E", '--no-loop')->{err},
	qr/"\U$back\E" is the name of a node of cluster/, 'nobody else acknowledges by its name');

$cluster->reload_line('n1', 'pg_elector.durability', 'any 2');
like($cluster->wait_for_status($now, 'n1', { detail => qr/durability/ })->{detail}, qr/"any 1" is in force, "any 2" when all members/,
	'a node that disagrees says so');
wait_for_rule($now, 'any 1', qw(n1 n2 n3));
$cluster->reload_line('n1', 'pg_elector.durability', 'any 1');
$cluster->remember('n1');
foreach my $wrong ('any', 'any 0', 'any 32', 'some 1', 'async 1', 'zones')
{
	like($cluster->try_psql($now, "ALTER SYSTEM SET pg_elector.durability = '$wrong'")->{err}, qr/22023.*\n.*is no durability policy/,
		"\"$wrong\" is no policy");
}

# A planned change keeps it.
$cluster->psql($now, 'SELECT elector_switchover()');
$next = $cluster->wait_for_leader(exclude => $now);
$writer->wait_for_acks(50);
wait_for_rule($next, 'any 1', qw(n1 n2 n3));

$cluster->check_end('durability', $writer, $probers);

# Two of three are gone for good: an operator accepts that rows may be lost.
$leader = $cluster->wait_for_leader;
@followers = grep { $_ ne $leader } $cluster->nodes;
$cluster->kill_all($leader);
$cluster->kill_all($followers[0]);
$cluster->wait_for_status($followers[1], $followers[1], { detail => qr/commits may be on/ }, 30);
$cluster->remove_dead($followers[1], $leader);
$asked = $cluster->session($followers[1], user => 'postgres');
$asked->send('SELECT elector_failover(accept_data_loss => true)');
$row = $cluster->wait_for_status($followers[1], $followers[1], { role => 'leader', detail => qr/acknowledged the beginning/ });
like($row->{state}, qr/opening/, 'with accept_data_loss it leads, and waits for a follower');

# For as long as nobody else is there, longer than a promotion may take.
my $since = now();
$cluster->poll_until(sub { now() > $since + 16 }, 20, 'a promotion\'s bound to pass');
$cluster->reload_line($followers[1], 'pg_elector.too_few_followers', 'degrade');
$cluster->reload_line($followers[1], 'pg_elector.degrade_after', '1s');
like($asked->finish(30)->{out}, qr/^\($followers[1],$row->{term},/, 'or, degraded, takes writes without one');
ok($cluster->try_psql($followers[1], 'INSERT INTO rows (n) VALUES (-3)', user => 'app')->{ok}, 'it does');
my ($last) = (reverse $cluster->query_history($followers[1]))[0];
is($last->{reason}, 'failover', 'elector_history: why');
like($last->{note}, qr/an operator accepted on "$followers[1]" that acknowledged commits may be lost; degraded/, 'and that it was accepted');
$row = (durability($followers[1]))[0];
ok($row->{degraded}, 'elector_durability shows that it is degraded');
like($cluster->status_of($followers[1], $followers[1])->{detail}, qr/too few followers/, 'and so does elector_status');
$cluster->revive($_), $cluster->start($_) foreach $leader, $followers[0];
wait_for_rule($followers[1], 'any 1', qw(n1 n2 n3));
ok(!(durability($followers[1]))[0]{degraded}, 'when the followers are back it is not');
done_testing();
