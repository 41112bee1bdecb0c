# Settings: bad ones are refused when they are set, with what is wrong; those that
# will make something fail later are warned of.  PostgreSQL's own programs go on
# working with the library configured; loaded only, it changes nothing.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2)->build;
my $data    = $cluster->data('n1');

# Refused by ALTER SYSTEM.
foreach my $case (
	[ 'pg_elector.lease_ttl',    '5 parsecs',  qr/lease_ttl/,    'an unknown unit' ],
	[ 'pg_elector.lease_ttl',    '1s',         qr/lease_ttl/,    'a TTL below two seconds' ],
	[ 'pg_elector.lease_margin', '2s',         qr/lease_margin/, 'a margin that is not below the TTL' ],
	[ 'pg_elector.lease_margin', '1h',         qr/lease_margin/, 'a margin far above the TTL' ],
	[ 'pg_elector.node',         'a/b',        qr/node/,         'a slash in the name' ],
	[ 'pg_elector.node',         'a b',        qr/node/,         'a space in the name' ],
	[ 'pg_elector.node',         "a\nb",       qr/node/,         'a line feed in the name' ],
	[ 'pg_elector.node',         'a"b',        qr/node/,         'a quote in the name' ],
	[ 'pg_elector.node',         'x' x 300,    qr/node/,         'a very long name' ],
	[ 'pg_elector.cluster',      'a/../b',     qr/cluster/,      'a path for a cluster' ],
	[ 'pg_elector.etcd',         'nonsense',   qr/etcd/,         'an endpoint that is no URL' ],
	[ 'pg_elector.etcd',         'ftp://h:1',  qr/etcd/,         'an endpoint of another scheme' ],
	[ 'pg_elector.etcd',         'http://',    qr/etcd/,         'an endpoint without a host' ],
	[ 'pg_elector.etcd',         'http://h:1,,', qr/etcd/,       'an empty endpoint' ],
	[ 'pg_elector.conninfo',     'nonsense',   qr/conninfo/,     'a connection string that is none' ],
	[ 'pg_elector.conninfo',     'nonsense=1', qr/conninfo/,     'an option that libpq does not know' ],
	[ 'pg_elector.priority',     'high',       qr/priority/,     'a priority that is no number' ],
	[ 'pg_elector.rejoin',       'maybe',      qr/rejoin/,       'a choice that is none' ],
	[ 'pg_elector.nonsense',     'x',          qr/nonsense/,     'a setting that is none' ])
{
	my ($name, $value, $pattern, $what) = @$case;
	(my $literal = $value) =~ s/'/''/g;
	my $result = $cluster->try_psql('n1', "ALTER SYSTEM SET $name = '$literal'");
	ok(!$result->{ok}, "ALTER SYSTEM refuses $what");
	like($result->{err}, $pattern, 'and says what is wrong');
	$cluster->try_psql('n1', "ALTER SYSTEM RESET $name") if $result->{ok};
}

# What a connection string's password is, no message tells.
my $secret = $cluster->try_psql('n1', q{ALTER SYSTEM SET pg_elector.conninfo = 'host=x password=hush nonsense=1'});
unlike($secret->{err} =~ s/^STATEMENT.*//mr, qr/hush/, 'no password in the error');

# Refused at the start.
$cluster->stop('n2');
foreach my $case (
	[ 'pg_elector.lease_ttl',    '1s',         'a TTL below two seconds' ],
	[ 'pg_elector.lease_margin', '5s',         'a margin that is not below the TTL' ],
	[ 'pg_elector.node',         'a/b',        'a slash in the name' ],
	[ 'pg_elector.etcd',         'nonsense',   'an endpoint that is no URL' ],
	[ 'pg_elector.conninfo',     'nonsense=1', 'an option that libpq does not know' ])
{
	my ($name, $value, $what) = @$case;
	my $conf   = read_file($cluster->data('n2') . '/postgresql.conf');
	my $offset = $cluster->log_offset('n2');
	$cluster->set_line('n2', $name, $value);
	my $result = $cluster->start('n2', may_fail => 1);
	ok(!$result->{ok}, "a start is refused with $what");
	like($cluster->log_since('n2', $offset), qr/FATAL|ERROR/, 'the log has an error');
	like($cluster->log_since('n2', $offset), qr/\Q$name\E/, 'that names the setting');
	$cluster->stop('n2', may_fail => 1) if $result->{ok};
	write_file($cluster->data('n2') . '/postgresql.conf', $conf);
}

# Warned of.
{
	my $conf   = read_file($cluster->data('n2') . '/postgresql.conf');
	my $offset = $cluster->log_offset('n2');
	$cluster->set_line('n2', 'wal_log_hints', 'off');
	$cluster->start('n2');
	$cluster->wait_log('n2', qr/WARNING:.*wal_log_hints|wal_log_hints.*(?:off|rewind)/, $offset);
	pass('wal_log_hints off: a warning at the start');
	ok($cluster->wait_for_status('n1', 'n2', { detail => qr/wal_log_hints/ }), 'and in elector_status');
	$cluster->stop('n2');

	write_file($cluster->data('n2') . '/postgresql.conf', $conf);
	$cluster->set_line('n2', 'pg_elector.conninfo', $cluster->node_conninfo('n2') =~ s/user=\w+/user=missing_role/r);
	$cluster->start('n2');
	ok($cluster->wait_for_status('n1', 'n2', { detail => qr/missing_role|role/ }), 'a missing role is in elector_status');
	$cluster->stop('n2');

	write_file($cluster->data('n2') . '/postgresql.conf', $conf);
	$offset = $cluster->log_offset('n2');
	$cluster->set_line('n2', 'hot_standby', 'off');
	$cluster->start('n2', may_fail => 1, timeout => 5);
	$cluster->wait_log('n2', qr/hot_standby/, $offset);
	pass('hot_standby off: the log says so');
	$cluster->stop('n2', may_fail => 1);
	write_file($cluster->data('n2') . '/postgresql.conf', $conf);
}

# PostgreSQL's own programs, on a node that is configured.
ok($cluster->run_on('n1', {}, 'pg_dump', '-h', '127.0.0.1', '-U', 'postgres', '-f', '/dev/null', 'postgres')->{ok}, 'pg_dump of the leader');
sub files { return join ' ', sort map { (split m{/})[-1] } glob($_[0] . '/*') }
my $files = files($cluster->data('n2'));
is($cluster->run_on('n2', {}, 'postgres', '-D', $cluster->data('n2'), '-C', 'data_directory')->{out},
	$cluster->data('n2') . "\n", 'postgres -C');
like($cluster->run_on('n2', {}, 'postgres', '-D', $cluster->data('n2'), '-C', 'shared_memory_size')->{out},
	qr/^\d+$/m, 'postgres -C of a computed setting');
is(files($cluster->data('n2')), $files, 'postgres -C changes no file');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
pass('and the server starts as ever');
ok($cluster->run_on('n2', {}, 'pg_dump', '-h', '127.0.0.1', '-U', 'postgres', '-f', '/dev/null', 'postgres')->{ok}, 'pg_dump of a follower');
ok($cluster->run_on('n2', { timeout => 60 }, 'pg_basebackup', '-D', $cluster->base . '/copy', '-h', '127.0.0.1',
		'-U', 'postgres', '-X', 'stream', '-c', 'fast')->{ok}, 'pg_basebackup of a follower');
ok($cluster->run_on('n1', {}, 'pg_ctl', '-D', $data, 'reload')->{ok}, 'pg_ctl reload');
ok($cluster->run_on('n1', {}, 'pg_ctl', '-D', $data, 'status')->{ok}, 'pg_ctl status');
foreach my $mode (qw(smart fast immediate))
{
	$cluster->stop('n2', mode => $mode);
	$cluster->start('n2');
	$cluster->wait_for_follower('n2');
	pass("pg_ctl stop -m $mode of a follower");
}

# Single-user mode, of a whole cluster that is down; then it is up again.
$cluster->stop($_) foreach qw(n2 n1);
my $single = $cluster->run_on('n1', { stdin => "SELECT 40 + 2 AS answer\n" }, 'postgres', '--single', '-D', $data, 'postgres');
ok($single->{ok}, 'single-user mode');
like($single->{out}, qr/answer = "42"/, 'answers');
$cluster->start($_) foreach qw(n1 n2);
$cluster->wait_for_leader(timeout => 40);
my $leader = $cluster->leader;
$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
pass('after single-user mode, the cluster is whole');
$cluster->teardown;

# Loaded, not configured.
my $lone = ElectorCluster->new(nodes => 1, settings => {
		map { ("pg_elector.$_" => undef) } qw(cluster etcd lease_ttl lease_margin failover_cooldown) });
$lone->init_first('n1');
$lone->set_line('n1', "pg_elector.$_", undef) foreach qw(node conninfo);
unlike(read_file($lone->data('n1') . '/postgresql.conf') =~ s/^#.*\n//mgr, qr/^pg_elector\./m, 'loaded, not configured');
$lone->start('n1');
is($lone->psql('n1', 'SELECT pg_is_in_recovery()'), 'f', 'it is no standby');
is($lone->psql('n1', 'CREATE TABLE t AS SELECT 1 AS n; SELECT n FROM t'), 1, 'it takes writes');
is($lone->worker_pid('n1'), undef, 'it has no elector');
ok(!-e $lone->data('n1') . '/standby.signal', 'no standby.signal');
$lone->psql('n1', 'CREATE EXTENSION pg_elector');
pass('CREATE EXTENSION');
my $pid = $lone->postmaster_pid('n1');
my $offset = $lone->log_offset('n1');
my $session = $lone->session('n1', user => 'postgres');
kill 'KILL', $session->query('SELECT pg_backend_pid()')->{out};
$lone->wait_log('n1', qr/all server processes terminated.*database system is ready to accept connections/s, $offset);
is($lone->psql('n1', 'INSERT INTO t VALUES (2) RETURNING n'), 2, 'it takes writes after a crash');
is($lone->postmaster_pid('n1'), $pid, 'in the same process');
$lone->restart('n1');
is($lone->psql('n1', 'SELECT count(*) FROM t'), 2, 'and after a restart');
$lone->stop('n1');
$single = $lone->run_on('n1', { stdin => "SELECT count(*) AS answer FROM t\n" }, 'postgres', '--single', '-D', $lone->data('n1'), 'postgres');
like($single->{out}, qr/answer = "2"/, 'single-user mode');

# Not loaded.
$lone->set_line('n1', 'shared_preload_libraries', undef);
foreach my $cluster ('', 'orders')
{
	my $name = $cluster eq '' ? 'not loaded' : 'not loaded, but configured';
	$lone->set_line('n1', 'pg_elector.cluster', $cluster) if $cluster ne '';
	$lone->start('n1');
	$lone->psql('n1', 'DROP EXTENSION pg_elector');
	$lone->psql('n1', 'CREATE EXTENSION pg_elector');
	pass("$name: CREATE EXTENSION");
	foreach my $call ('SELECT elector_is_leader()', 'SELECT * FROM elector_status', 'SELECT elector_switchover()')
	{
		my $result = $lone->try_psql('n1', $call);
		is($result->{sqlstate}, '55000', "$name: $call is an error");
		like($result->{err}, qr/no node of a cluster.*HINT:  Set shared_preload_libraries/s, "$name: that tells what to do");
	}
	$lone->stop('n1');
}
$lone->set_line('n1', 'pg_elector.cluster', undef);
$lone->set_line('n1', 'shared_preload_libraries', 'pg_elector');

# pg_upgrade, of that one to a node of a cluster.
$lone->init_first('n2', settings => { 'pg_elector.cluster' => 'orders', 'pg_elector.etcd' => $lone->endpoints });
my ($from, $to, $bin) = ($lone->data('n1'), $lone->data('n2'), $lone->bindir);
my $upgrade = $lone->run_on('n2', { timeout => 120 }, '/bin/sh', '-c',
	'cd ' . $lone->base . " && $bin/pg_upgrade -U postgres -b $bin -B $bin -d $from -D $to");
ok($upgrade->{ok}, 'pg_upgrade') or diag("$upgrade->{out}$upgrade->{err}");
ok(!-e "$to/$_", "pg_upgrade: no $_") foreach qw(standby.signal pg_elector);
$lone->start_etcd;
$lone->start('n2');
$lone->wait_for_writable('n2');
is($lone->psql('n2', 'SELECT count(*) FROM t'), 2, 'pg_upgrade: the node leads with what was there');

done_testing();
