# Whose WAL is which: timelines.  Each hole is shown on plain servers first, which
# somebody promotes and attaches by hand.
#
# A follower on another history (S1).  The leader writes more than it sends, and dies;
# another one is promoted, from less.  The old leader comes back as a standby, its WAL
# further than all that the new one has.  PostgreSQL takes that position for an
# acknowledgement: a commit returns, and is nowhere but on the new leader.
#
# One number, two histories (I9).  A standby is promoted, takes rows, and dies before
# anybody has streamed from it.  Another is promoted after it, and takes the same
# timeline.  When the first one returns, pg_rewind finds nothing to do, and it serves
# rows that the primary does not have.
#
# A number that was taken by hand (S18).  A standby is promoted while its elector
# stands still, and brought back.  No later leader may have that number, or else the
# standby could never be rewound.
#
# A timeline that led nowhere (S5, S1).  A new leader is followed, on a path that loses all
# large packets: the follower gets the history of the new timeline, for which its recovery
# is bound from then on, and none of its WAL.  The leader dies.  Who follows a newer
# timeline does not hold it: the old leader, which is back, is elected, and followed.  Or an
# operator takes the follower: the new timeline must not be said to come from the one that
# led nowhere, or else the old leader, which is further, passes for being on that history.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(must_run);
use Test::More;

sub rows { my ($cluster, $node, $n) = @_; return $cluster->psql($node, "SELECT count(*) FROM rows WHERE n = $n") }

sub level
{
	my ($cluster, $leader) = @_;
	$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
	return;
}

# The leader holds WAL that nobody else has, and is dead.  No commit of it returned.
# It is all within one segment: a standby asks for WAL from where a segment begins; and
# far into it: while that is sent the standby tells its position.
sub die_ahead
{
	my ($cluster, $leader) = @_;
	my $session = $cluster->session($leader);

	$cluster->psql($leader, $_) foreach (
		'SELECT pg_switch_wal()', q{SELECT pg_logical_emit_message(false, 'filler', repeat('-', 10000000))},
		'SELECT pg_current_xact_id()');
	level($cluster, $leader);
	my $lsn = $cluster->psql($leader, 'SELECT pg_current_wal_lsn()');
	$cluster->stop_streams($leader);
	$session->send('INSERT INTO rows (n) SELECT generate_series(100000, 102000)');
	$cluster->poll_until(
		sub { $cluster->psql($leader, "SELECT pg_current_wal_flush_lsn() - '$lsn' > 100000") eq 't' },
		10, "$leader to be ahead");
	$cluster->kill_all($leader);
	return;
}

sub waiting_commit
{
	my ($cluster, $leader, $n) = @_;
	my $session = $cluster->session($leader);
	$session->backend;
	$session->send("INSERT INTO rows (n) VALUES ($n)");
	$cluster->wait_for_commit_wait($leader, $session->backend);
	return $session;
}

#
# Without the library.
#
{
	# A standby tells its position with each connection, in some of them too early for the
	# walsender to take note.
	my $plain = ElectorCluster->new(nodes => 3, plain => 1,
		settings => { autovacuum => 'off', wal_receiver_status_interval => '1s', wal_retrieve_retry_interval => '50ms' })->build;

	my $promote = sub {
		my ($node) = @_;
		my $result = $plain->run_on($node, {}, 'pg_ctl', '-D', $plain->data($node), '-w', 'promote');
		die "$result->{out}$result->{err}" unless $result->{ok};
	};
	my $attach = sub {
		my ($node, $to) = @_;
		$plain->append($node, 'standby.signal', '');
		$plain->append($node, 'postgresql.auto.conf',
			"primary_conninfo = '" . $plain->node_conninfo($to) . " application_name=$node'\n");
		$plain->revive($node);
		$plain->start($node);
	};

	die_ahead($plain, 'n1');
	$promote->('n2');
	$plain->psql('n2', 'INSERT INTO rows (n) VALUES (-2)');
	$plain->kill_all('n2');
	$promote->('n3');
	$plain->psql('n3', 'INSERT INTO rows (n) VALUES (-3)');
	$plain->psql('n3', 'CHECKPOINT');

	$plain->revive('n2');
	my $rewind = $plain->run_on('n2', { timeout => 60 }, 'pg_rewind', '-D', $plain->data('n2'),
		'--source-server', $plain->conninfo('n3', over => 'net'));
	like($rewind->{err}, qr/no rewind required/, 'plain: two promotions to one timeline: pg_rewind finds nothing to do')
	  or diag("$rewind->{out}$rewind->{err}");
	$attach->('n2', 'n3');
	is(rows($plain, 'n2', -2) . rows($plain, 'n3', -2), '10', 'plain: and a standby has a row that its primary does not have');

	$plain->reload_line('n3', 'synchronous_standby_names', 'ANY 1 (n1)');
	$plain->poll_until(sub { $plain->psql('n3', 'SHOW synchronous_standby_names') ne '' }, 10, 'the setting to be loaded');
	my $session = waiting_commit($plain, 'n3', -1);
	$attach->('n1', 'n3');
	ok($session->finish(20)->{ok}, 'plain: another history: a commit is acknowledged');
	is(rows($plain, 'n3', -1) . rows($plain, 'n1', -1), '10', 'plain: by a standby that does not have it');
	$plain->teardown;
}

#
# Under the library.
#
my $cluster = ElectorCluster->new(nodes => 3,
	settings => { autovacuum => 'off', 'pg_elector.cold_start_wait' => '3s' })->build;

# The timeline that a primary is on.
sub timeline_of
{
	my ($node) = @_;
	return $cluster->psql($node, q{SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int});
}

sub streams
{
	my ($from, $to) = @_;
	return $cluster->psql($from, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$to'");
}

sub bring_back
{
	my ($node) = @_;
	$cluster->revive($node);
	$cluster->start($node);
	return $cluster->wait_for_follower($node, 60);
}

# Another history.
$cluster->set_durability('any 1');
$cluster->reload_line('n2', 'pg_elector.priority', 200);
$cluster->wait_for_status('n1', 'n2', { priority => 200 });
die_ahead($cluster, 'n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'another history: a new leader');
$cluster->wait_for_follower('n3');
my $upstream = $cluster->psql('n3', 'SHOW primary_conninfo') =~ s/application_name=n3/application_name=n1/r;
$cluster->kill_all('n3');
my $session = waiting_commit($cluster, 'n2', -1);

$cluster->set_line('n1', 'pg_elector.rejoin', 'off');
$cluster->revive('n1');
$cluster->start('n1');
$cluster->poll_until(
	sub { ($cluster->status_of('n1', 'n1') // { state => '' })->{state} eq 'diverged' || $cluster->wait_event('n2', $session->backend) ne 'SyncRep' },
	30, 'n1 to find that it is on one');
is($cluster->wait_event('n2', $session->backend), 'SyncRep', 'another history: the commit waits');
is(streams('n2', 'n1'), 0, 'another history: who is on one does not follow');

# Somebody lets it follow by hand, exactly as if the elector had.
my $offset = $cluster->log_offset('n1');
$cluster->psql('n1', $_) foreach (q{ALTER SYSTEM SET primary_conninfo = '} . $upstream =~ s/'/''/gr . q{'}, 'SELECT pg_reload_conf()');
unlike($cluster->wait_log('n1', qr/this node does not follow that server now|(?:fetching|started streaming|no more WAL) .*timeline/, $offset),
	qr/timeline/, 'another history: nor by hand');
is(streams('n2', 'n1'), 0, 'another history: it is refused');
is($cluster->wait_event('n2', $session->backend), 'SyncRep', 'another history: the commit goes on waiting');

# Rewound, it does, and has the commit when that returns.
$offset = $cluster->log_offset('n1');
$cluster->reload_line('n1', 'pg_elector.rejoin', 'rewind');
ok($session->finish(60)->{ok}, 'another history: it is acknowledged then');
like($cluster->log_since('n1', $offset), qr/rewinding the data directory to rejoin node "n2"/, 'another history: by a node that was rewound');
$cluster->wait_until_counts('n1');
$cluster->kill_all('n2');
$cluster->revive('n3');
$cluster->start('n3');
my $leader = $cluster->wait_for_leader(exclude => 'n2', timeout => 30);
is(rows($cluster, $leader, -1), 1, 'another history: so the next leader has it');
is(rows($cluster, $leader, 100000), 0, 'another history: and not what nobody acknowledged');
bring_back('n2');
level($cluster, $leader);

# One number, two histories.
$cluster->set_durability('async');
my ($first, $second) = grep { $_ ne $leader } $cluster->nodes;
my $old = timeline_of($leader);
level($cluster, $leader);
$cluster->cut($second);
$cluster->kill_all($leader);
is($cluster->wait_for_leader(exclude => $leader), $first, 'one number: a leader without followers');
$cluster->psql($first, 'INSERT INTO rows (n) VALUES (-2)');
my $taken = timeline_of($first);
$cluster->kill_all($first);
$cluster->heal($second);
is($cluster->wait_for_leader(exclude => [ $leader, $first ], timeout => 30), $second, 'one number: another leader, which has heard nothing of it');
$cluster->psql($second, 'INSERT INTO rows (n) VALUES (-3)');
cmp_ok(timeline_of($second), '>', $taken, "one number: is on another timeline than $taken");
like(read_file($cluster->data($second) . sprintf('/pg_wal/%08X.history', timeline_of($second))), qr/^(?:.*\n)*$old\t\S+\t.*\n\z/,
	"one number: that comes from the same one, $old");
$offset = $cluster->log_offset($first);
is(bring_back($first), $second, 'one number: the first one follows');
like($cluster->log_since($first, $offset), qr/rewinding the data directory to rejoin node "$second"/, 'one number: after it was rewound');
is(join(' ', map { rows($cluster, $first, $_) } (-1, -2, -3)), '1 0 1', 'one number: and has what its leader has');
bring_back($leader);

# A number taken by hand.
$cluster->set_line($first, 'pg_elector.rejoin', 'off');
$cluster->reload_line($first, 'pg_elector.candidate', 'off');
$cluster->wait_for_status($second, $first, { state => 'streaming' });
$cluster->stop_worker($first);
$cluster->run_on($first, {}, 'pg_ctl', '-D', $cluster->data($first), '-W', 'promote');
$cluster->poll_until(sub { $cluster->try_psql($first, 'SELECT pg_is_in_recovery()')->{out} eq 'f' }, 30, "$first to be promoted");
my $by_hand = timeline_of($first);
$cluster->cont_worker($first);
$cluster->wait_for_status($first, $first, { state => 'diverged' }, 30);
is($by_hand, timeline_of($second) + 1, 'by hand: the next number is taken');
$cluster->kill_postmaster($second);
is($cluster->wait_for_leader(exclude => $second), $leader, 'by hand: another leader');
is(timeline_of($leader), $by_hand + 1, 'by hand: which has the one after that');
$offset = $cluster->log_offset($first);
$cluster->set_line($first, 'pg_elector.candidate', 'on');
$cluster->reload_line($first, 'pg_elector.rejoin', 'rewind');
is($cluster->wait_for_follower($first, 60), $leader, 'by hand: it follows again');
like($cluster->log_since($first, $offset), qr/rewinding the data directory/, 'by hand: after it was rewound');
$cluster->wait_for_no_process($second);
$cluster->start($second);

# A timeline that led nowhere.
# Of what comes from one host to another, all large packets are lost.
sub lose_large_packets
{
	my ($from, $to) = @_;
	my $address = $cluster->address($from);
	must_run({ stdin => <<"END" }, $cluster->network->on($to), 'nft', '-f', '-');
table inet large {
  chain incoming {
    type filter hook input priority 1; policy accept;
    iifname "eth0" ip saddr $address tcp sport 5432 meta length > 1200 drop;
  }
}
END
	return;
}

# The leader is dead, and so is the one that came after it, which has acknowledged a row.
# The third is bound for the timeline of that one.  Returns all three.
sub lead_nowhere
{
	my ($row) = @_;
	my $leader = $cluster->wait_for_leader;
	my ($has, $lacks) = grep { $_ ne $leader } $cluster->nodes;

	$cluster->wait_for_follower($_, 60), $cluster->wait_until_counts($_) foreach $has, $lacks;
	$cluster->psql($leader, $_) foreach ('SELECT pg_switch_wal()', 'INSERT INTO rows (n) SELECT generate_series(200000, 201000)');
	level($cluster, $leader);
	$cluster->stop_streams($leader, $lacks);
	$cluster->psql($leader, "INSERT INTO rows (n) VALUES ($row)");
	my $offset = $cluster->log_offset($lacks);
	lose_large_packets($has, $lacks);
	$cluster->kill_all($leader);
	$cluster->wait_for_status($has, $has, { role => 'leader', detail => qr/acknowledged the beginning/ });
	$cluster->wait_log($lacks, qr/fetching timeline history file.*started streaming WAL/s, $offset);
	$cluster->kill_all($has);
	must_run({}, $cluster->network->on($lacks), 'nft', 'delete', 'table', 'inet', 'large');
	return ($leader, $has, $lacks);
}

$cluster->wait_for_follower($second, 60);
$cluster->set_durability('any 1');
{
	my ($old, $dead, $follower) = lead_nowhere(-4);
	$cluster->revive($old);
	$cluster->start($old);
	is($cluster->wait_for_leader(exclude => $dead, timeout => 40), $old, 'nowhere: the old leader leads, which holds more');
	is(rows($cluster, $old, -4), 1, 'nowhere: what was acknowledged is there');
	is($cluster->wait_for_follower($follower, 60), $old, 'nowhere: and is followed');
	bring_back($dead);
}
{
	my $before = timeline_of($cluster->wait_for_leader);
	my ($old, $dead, $follower) = lead_nowhere(-5);
	my $asked  = $cluster->session($follower, user => 'postgres');

	$cluster->wait_for_status($follower, $follower, { state => 'commits missing' }, 30);
	$asked->send('SELECT elector_failover(accept_data_loss => true)');
	$cluster->wait_for_status($follower, $follower, { role => 'leader', detail => qr/acknowledged the beginning/ }, 30);
	like(read_file($cluster->data($follower) . sprintf('/pg_wal/%08X.history', timeline_of($follower))), qr/^(?:.*\n)*$before\t\S+\t.*\n\z/,
		"nowhere: taken by an operator, the follower comes from timeline $before");
	my $offset = $cluster->log_offset($old);
	$cluster->revive($old);
	$cluster->start($old);
	is($cluster->wait_for_leader(timeout => 60), $follower, 'nowhere: it leads');
	$asked->finish(60);
	like($cluster->log_since($old, $offset), qr/rewinding the data directory to rejoin node "$follower"/, 'nowhere: the old leader, which holds more, is rewound');
	is(rows($cluster, $follower, -5), 0, 'nowhere: what only that one had is lost, as was accepted');
	bring_back($dead);
}

$cluster->remember;
$cluster->check_whole('timelines');
is($cluster->psql('n1', 'SELECT timeline FROM elector_history GROUP BY timeline HAVING count(*) > 1'), '', 'no timeline was used twice');

done_testing();
