# Rights.  The other nodes come as a role that is no superuser, made as the README
# says; that is enough to replicate, to fence and to rewind.  What is missing on
# the way there is told.  Others may call none of it, no password gets into etcd
# or a log, and the connections that peers keep open hold up no shutdown.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, peer => 'elector', settings => { 'pg_elector.admin_roles' => 'postgres' });
$cluster->start_etcd;
$cluster->init_first('n1');
$cluster->start('n1');
$cluster->wait_for_writable('n1');

# Step by step; each is told in the log until the next is taken.
my $warning = qr/WARNING:  other nodes cannot use "pg_elector.conninfo" of this one: /;
$cluster->wait_log('n1', qr/$warning.*role "elector" does not exist/);
pass('a role that is missing: a warning');
my $offset = $cluster->log_offset('n1');
$cluster->psql('n1', 'CREATE ROLE elector LOGIN REPLICATION');
$cluster->wait_log('n1', qr/${warning}extension pg_elector is missing/, $offset);
pass('an extension that is missing: a warning');

$cluster->psql('n1', 'CREATE DATABASE elsewhere');
$cluster->psql('n1', 'CREATE EXTENSION pg_elector', db => 'elsewhere');
like($cluster->psql('n1', q{SELECT detail FROM elector_status WHERE node = 'n1'}, db => 'elsewhere'),
	qr/extension pg_elector is missing.*CREATE EXTENSION/, 'and elector_status says so in another database');

$offset = $cluster->log_offset('n1');
$cluster->psql('n1', 'CREATE EXTENSION pg_elector');
$cluster->wait_log('n1', qr/${warning}the role of its pg_elector.conninfo may not/, $offset);
pass('rights that are missing: a warning');
like($cluster->wait_for_status('n1', 'n1', { detail => qr/may not/ })->{detail}, qr/elector_grant_peer/,
	'and elector_status says what to do');

$offset = $cluster->log_offset('n1');
$cluster->psql('n1', q{SELECT elector_grant_peer('elector')});
$cluster->wait_log('n1', qr/LOG:  other nodes can use "pg_elector.conninfo" of this one/, $offset);
pass('all there: the log says so');
is($cluster->status_of('n1', 'n1')->{detail}, undef, 'and elector_status has nothing to say');
is($cluster->psql('n1', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'elector'}), 'f', 'the role is no superuser');

$cluster->create_tables('n1');
foreach my $node (qw(n2 n3))
{
	$cluster->add_node($node, from => 'n1');
	$cluster->start($node);
	is($cluster->wait_for_follower($node), 'n1', "$node follows");
}
$cluster->remember;
is($cluster->psql('n1', q{SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_replication}), 'elector', 'as that role');
is($cluster->psql('n1', q{SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity
		WHERE application_name LIKE 'pg_elector/%' AND backend_type = 'client backend'}), 'elector', 'and they ask as that role');

# Others may not.
my $app = $cluster->session('n1', user => 'app');
foreach my $call (q{elector_fence('{}')}, q{elector_establish('{}')}, 'elector_report()',
	'elector_switchover()', q{elector_switchover('n2')}, q{elector_grant_peer('app')})
{
	my $result = $app->query("SELECT $call");
	is($result->{sqlstate}, '42501', "anybody may not call $call") or diag("$result->{out} $result->{err}");
}
foreach my $call ('elector_switchover()', q{elector_grant_peer('app')}, q{pg_read_file('postgresql.conf')})
{
	is(($cluster->ask('n1', "SELECT $call", user => 'elector'))[0], '42501', "the peers' role may not call $call");
}
is($app->query('SHOW pg_elector.conninfo')->{sqlstate}, '42501', 'anybody may not see pg_elector.conninfo');
foreach my $query ('SELECT count(*) FROM elector_status', 'SELECT count(*) FROM elector_history',
	'SELECT count(*) FROM elector_lease', 'SELECT elector_is_leader()', 'SELECT elector_term()')
{
	ok($app->query($query)->{ok}, "anybody may $query");
}

# Nor may the owner of a schema have the peers' role call something else.
$cluster->psql('n1', $_) foreach (
	'CREATE SCHEMA elector',
	'CREATE TABLE elector.called (what text)',
	'GRANT USAGE ON SCHEMA elector TO elector',
	'GRANT INSERT ON elector.called TO elector',
	q{CREATE FUNCTION elector.elector_report() RETURNS text LANGUAGE sql AS
		$$INSERT INTO elector.called VALUES ('report') RETURNING public.elector_report()$$});
my $created = $cluster->psql('n1', 'SELECT now()');
$cluster->poll_until(
	sub {
		$cluster->psql('n1', qq{SELECT count(*) FROM pg_stat_activity WHERE usename = 'elector' AND state = 'idle'
			AND application_name IN ('pg_elector/n2', 'pg_elector/n3') AND query_start > '$created'}) == 2;
	},
	20, 'the peers to ask');
is($cluster->psql('n1', 'SELECT count(*) FROM elector.called'), 0, 'the peers call no function of somebody else');
$cluster->psql('n1', 'DROP SCHEMA elector CASCADE');

# A password.
foreach my $conninfo (
	'host=10.99.0.11 user=elector dbname=postgres password=hush',
	'postgresql://elector:hush@10.99.0.11/postgres',
	'host=10.99.0.11 dbname=postgres sslpassword=hush')
{
	my $result = $cluster->try_psql('n1', "ALTER SYSTEM SET pg_elector.conninfo = '$conninfo'");
	ok(!$result->{ok}, "refused: $conninfo");
	like($result->{err}, qr/password file/, 'with what to do');
	unlike($result->{err} =~ s/^(?:STATEMENT|LINE).*//mgr, qr/hush/, 'without showing it');
}
{
	my $conf = read_file($cluster->data('n3') . '/postgresql.conf');
	$cluster->stop('n3');
	my $start = $cluster->log_offset('n3');
	$cluster->set_line('n3', 'pg_elector.conninfo', $cluster->node_conninfo('n3') . ' password=hush');
	ok(!$cluster->start('n3', may_fail => 1)->{ok}, 'a start is refused with a password');
	my $log = $cluster->log_since('n3', $start);
	like($log, qr/FATAL.*pg_elector\.conninfo/, 'the log names the setting');
	unlike($log, qr/hush/, 'and does not show the password');
	write_file($cluster->data('n3') . '/postgresql.conf', $conf);
	$cluster->start('n3');
	$cluster->wait_for_follower('n3');
	$cluster->remember('n3');
}
{
	my %keys = $cluster->etcd_keys;
	is(join(' ', grep { $keys{$_} =~ /hush/ } sort keys %keys), '', 'etcd knows no password');
}

my $writer = $cluster->start_writer;

# A killed postmaster.
{
	my $old = $cluster->leader;
	$cluster->kill_postmaster($old);
	my $new = $cluster->wait_for_leader(exclude => $old);
	ok($new, "postmaster killed: $new leads");
	$cluster->wait_for_no_process($old);
	$cluster->start($old);
	is($cluster->wait_for_follower($old), $new, 'postmaster killed: back, it follows');
	$cluster->remember($old);
	$writer->wait_for_acks(10);
}

# Cut off from etcd: the winner fences it over libpq.
{
	my $old = $cluster->leader;
	$cluster->cut($old, from => 'etcd');
	my $new = $cluster->wait_for_leader(exclude => $old);
	my @history = $cluster->query_history($new);
	is($history[-1]{revoked}, 'fenced', "cut off from etcd: $old is fenced");
	$cluster->wait_log($old, qr/fenced for term $history[-1]{term}\b/);
	$cluster->heal($old);
	is($cluster->wait_for_follower($old), $new, 'cut off from etcd: healed, it follows');
	$writer->wait_for_acks(10);
}

# Cut off from everything, with a row of its own: it is rewound.
{
	my $old   = $cluster->leader;
	my $start = $cluster->log_offset($old);
	my $session = $cluster->session($old);
	$cluster->cut($old);
	ok($session->query('INSERT INTO rows (n) VALUES (-1)')->{ok}, 'diverged: a row that only the old leader has');
	my $new = $cluster->wait_for_leader(exclude => $old);
	$writer->wait_for_acks(10);
	$cluster->heal($old);
	is($cluster->wait_for_follower($old), $new, 'diverged: healed, it follows');
	is($cluster->psql($old, 'SELECT count(*) FROM rows WHERE n = -1'), 0, 'diverged: the row is gone');
	like($cluster->log_since($old, $start), qr/rewind|rewound/i, 'diverged: it was rewound');
	unlike($cluster->log_since($old, $start), qr/permission denied|must be superuser/, 'diverged: no right was missing');
	$cluster->check_whole('diverged');
}
$writer->wait_for_acks(10);
$writer->stop;

# Smart shutdowns.
foreach my $time (1 .. 2)
{
	my $leader = $cluster->wait_for_leader;
	my ($follower) = grep { $_ ne $leader } $cluster->nodes;
	$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;

	foreach my $node ($follower, $leader)
	{
		my $what = $node eq $leader ? 'the leader' : 'a follower';
		# A peer that lost its connection comes back within a second or so.
		my $kept = 0;
		$cluster->poll_until(
			sub {
				$kept = $cluster->psql($node, q{SELECT count(*) FROM pg_stat_activity
					WHERE usename = 'elector' AND backend_type = 'client backend'});
				return $kept >= 2;
			},
			10, "the peers of $node to be connected");
		pass("smart shutdown of $what: peers keep $kept connections open");
		my $since = now();
		ok($cluster->stop($node, mode => 'smart', may_fail => 1, timeout => 20)->{ok}, "smart shutdown of $what ends");
		note(sprintf '%.1f s', now() - $since);
		my $new = $cluster->wait_for_leader(exclude => $node);
		is($new, $leader, 'and nothing happens to the leader') if $node ne $leader;
		$cluster->start($node);
		is($cluster->wait_for_follower($node), $new, "$node is back, and follows");
		$cluster->remember($node);
	}
}
my $leader = $cluster->check_whole('access');
$writer->check_rows($leader, name => 'access', losses => 1);
$cluster->check_history('access', $leader);

done_testing();
