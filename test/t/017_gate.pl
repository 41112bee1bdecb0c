# What is open when the gate closes.  etcd is gone for longer than the TTL, so the
# leader's gate closes by the clock while it stays a primary, with sessions that
# are in the middle of everything.  Nothing is acknowledged, nothing is damaged,
# and the same leader goes on when etcd is back.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

# Commits wait for a standby that does not exist, where a session wants that.
my $cluster = ElectorCluster->new(nodes => 2, settings => {
		'pg_elector.failsafe'     => 'off',
		max_prepared_transactions => 10,
		synchronous_standby_names => 'nobody',
		synchronous_commit        => 'local' })->build;
my $term = $cluster->term('n1');

$cluster->psql('n1', $_) foreach (
	'CREATE DATABASE victim',
	'CREATE SEQUENCE numbers CACHE 1',
	'INSERT INTO rows (n) SELECT generate_series(1, 1000)',
	'CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.rows (n) VALUES (-90); COMMIT; INSERT INTO public.rows (n) VALUES (-91); END$$',
	'GRANT ALL ON numbers TO app',
	'GRANT CREATE ON SCHEMA public TO app',
	'CREATE TABLE readings AS SELECT 1 AS n',
	'GRANT SELECT ON readings TO app');
my $object = $cluster->psql('n1', q{SELECT lo_from_bytea(0, 'of the leader')});
$cluster->psql('n1', "GRANT SELECT ON LARGE OBJECT $object TO app");

# A session in the middle of something, all of which succeeds.
sub session
{
	my (@statements) = @_;
	my $user = $statements[0] eq 'postgres' ? shift @statements : 'app';
	my $session = $cluster->session('n1', user => $user);
	foreach my $sql (@statements)
	{
		my $result = $session->query($sql);
		die "$sql: $result->{err}\n" unless $result->{ok};
	}
	return $session;
}

# A session whose statement waits for the synchronous standby.
sub waiting
{
	my ($sql, @before) = @_;
	my $session = session('postgres', 'SET synchronous_commit = on', @before);
	my $pid = $session->query('SELECT pg_backend_pid()')->{out};
	$session->send($sql);
	$cluster->poll_until(
		sub { $cluster->psql('n1', "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'SyncRep' },
		10, "$sql to wait");
	return ($session, $pid);
}

sub refused
{
	my ($session, $sql, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $result = $session->query($sql);
	ok(!$result->{ok} && $result->{sqlstate} eq '25006', "$what is refused")
	  or diag("$sql: $result->{sqlstate} $result->{out} $result->{err}");
	like($result->{err}, qr/HINT:/, "$what: with a hint");
	return;
}

sub unanswered
{
	my ($session, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $result = $session->finish(20);
	ok(!$result->{timed_out} && !$result->{ok} && $result->{sqlstate} ne '00000', "$what: not acknowledged")
	  or diag("timed out: $result->{timed_out}, $result->{sqlstate} $result->{out} $result->{err}");
	return;
}

# While the gate is open, a commit whose wait is cancelled is acknowledged.
{
	my ($session, $pid) = waiting('INSERT INTO rows (n) VALUES (-1)');
	$cluster->psql('n1', "SELECT pg_cancel_backend($pid)");
	ok($session->finish->{ok}, 'open: a cancelled wait is acknowledged');
}

# What is open when it closes.
my $admin   = session('postgres', 'SELECT 1');
my $app     = session('SELECT 1');
my $writer  = session('BEGIN', 'INSERT INTO rows (n) VALUES (-2)');
my $super   = session('postgres', 'BEGIN', 'INSERT INTO rows (n) VALUES (-3)');
my $locker  = session('postgres', 'BEGIN', 'SELECT n FROM rows WHERE n = 1 FOR UPDATE');
my $ddl     = session('BEGIN', 'CREATE TABLE never (n int)');
my $reader  = session('BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM rows');
my $cursor  = session('BEGIN', 'DECLARE c CURSOR FOR SELECT n FROM rows', 'FETCH 1 FROM c');
my $super_cursor = session('postgres', 'BEGIN', 'DECLARE c CURSOR FOR SELECT n FROM rows ORDER BY n DESC', 'FETCH 1 FROM c');
my $nested  = session('BEGIN', 'INSERT INTO rows (n) VALUES (-4)', 'SAVEPOINT s', 'INSERT INTO rows (n) VALUES (-5)');
my $back    = session('BEGIN', 'SAVEPOINT s', 'INSERT INTO rows (n) VALUES (-6)');
my $prepare = session('BEGIN', 'INSERT INTO rows (n) VALUES (-7)');
my $block   = session('BEGIN', 'INSERT INTO rows (n) VALUES (-8)');
my $notify  = session('BEGIN', "NOTIFY news, 'late'");
my $listen  = session('LISTEN news');
my $named   = session('PREPARE put (int) AS INSERT INTO rows (n) VALUES ($1)', 'PREPARE get AS SELECT count(*) FROM rows');
session('postgres', 'BEGIN', 'INSERT INTO rows (n) VALUES (-10)', q{PREPARE TRANSACTION 'kept'})->stop;
session('postgres', 'BEGIN', 'INSERT INTO rows (n) VALUES (-11)', q{PREPARE TRANSACTION 'decided'})->stop;
my $backend = $app->query('SELECT pg_backend_pid()')->{out};

# Large objects are read by function calls of the protocol; where these are, the
# client asks once, by a query.
my $export = $cluster->base . '/export';
$app->query("\\lo_export $object $export \\\\");
is(-s $export, length 'of the leader', 'open: a large object is read');
unlink $export;

# Commits under way.
my ($cancelled, $cancelled_pid) = waiting('INSERT INTO rows (n) VALUES (-20)');
my ($commit, $commit_pid) = waiting('COMMIT', 'BEGIN', 'INSERT INTO rows (n) VALUES (-21)');
my ($ended, $ended_pid) = waiting('INSERT INTO rows (n) VALUES (-22)');
my ($released) = waiting('INSERT INTO rows (n) VALUES (-23)');
my ($preparing, $preparing_pid) = waiting(q{PREPARE TRANSACTION 'half'}, 'BEGIN', 'INSERT INTO rows (n) VALUES (-24)');
my ($deciding, $deciding_pid) = waiting(q{COMMIT PREPARED 'decided'});
my ($calling, $calling_pid) = waiting('CALL twice()');

sub directories { return join ' ', sort map { (split m{/})[-1] } glob($cluster->data('n1') . '/base/*') }
my $databases = directories();

$cluster->kill_etcd;
$cluster->poll_until(sub { $app->query('SELECT 1')->{sqlstate} eq '25006' }, 15, 'the gate to close');
is($cluster->psql('n1', 'SELECT pg_is_in_recovery()'), 'f', 'the leader stays a primary');

# Transactions that were open.
refused($writer, 'COMMIT', 'the commit of an open transaction');
refused($super,  'COMMIT', 'the same of a superuser');
refused($locker, 'COMMIT', 'the commit of row locks');
refused($ddl,    'COMMIT', 'the commit of a new table');
refused($reader, 'SELECT count(*) FROM rows', 'a read in an open transaction');
refused($cursor, 'FETCH 1 FROM c', 'a fetch from an open cursor');
ok($cursor->query('ROLLBACK')->{ok}, 'and the session can roll back');
is($super_cursor->query('FETCH 1 FROM c')->{out}, 999, 'an admin may fetch');
ok($nested->query('RELEASE s')->{ok}, 'a savepoint is released');
refused($nested, 'COMMIT', 'the commit after that');
ok($back->query('ROLLBACK TO s')->{ok}, 'back to a savepoint');
ok($back->query('ROLLBACK')->{ok}, 'and back altogether');
refused($prepare, q{PREPARE TRANSACTION 'late'}, 'PREPARE TRANSACTION');
refused($block, 'COMMIT AND CHAIN', 'a commit that begins the next transaction');
$notify->send('COMMIT');
unanswered($notify, 'the commit of a notification');

# Statements that begin now.
refused($app, 'SELECT count(*) FROM rows', 'a read');
refused($app, 'TABLE readings', 'a read of another table');
refused($app, 'SELECT 1', 'a read of nothing');
refused($app, 'COPY rows TO STDOUT', 'COPY table TO');
refused($app, 'COPY (SELECT n FROM rows) TO STDOUT', 'COPY query TO');
refused($app, 'DECLARE c CURSOR WITH HOLD FOR SELECT n FROM rows', 'a new cursor');
refused($app, 'EXPLAIN ANALYZE SELECT count(*) FROM rows', 'EXPLAIN ANALYZE');
refused($app, 'DO $$BEGIN PERFORM count(*) FROM public.rows; END$$', 'a block that reads');
refused($app, 'INSERT INTO rows (n) VALUES (-30)', 'a write');
refused($app, "SELECT nextval('numbers')", 'a sequence');
refused($app, "NOTIFY news, 'now'", 'NOTIFY');
refused($named, 'EXECUTE put (-31)', 'a prepared write');
refused($named, 'EXECUTE get', 'a prepared read');
$app->query("\\lo_export $object $export \\\\");
ok(!-s $export, 'a large object is not read');

# An admin reads, and does not write.
is($admin->query('SELECT count(*) FROM rows WHERE n > 0')->{out}, 1000, 'an admin reads');
is($admin->query('COPY readings TO STDOUT')->{out}, 1, 'an admin copies out');
is($admin->query(q{SELECT state FROM elector_status WHERE node = 'n1'})->{ok}, 1, 'an admin sees elector_status');
refused($admin, @$_) foreach (
	[ 'INSERT INTO rows (n) VALUES (-40)',      'a write of an admin' ],
	[ 'UPDATE rows SET n = n WHERE n = 1',      'an update of an admin' ],
	[ 'SELECT n FROM rows WHERE n = 1 FOR UPDATE', 'a row lock of an admin' ],
	[ "SELECT setval('numbers', 7)",            'setval of an admin' ],
	[ q{SELECT lo_from_bytea(0, 'late')},       'a large object of an admin' ],
	[ 'CALL twice()',                           'a procedure that commits' ],
	[ 'DO $$BEGIN INSERT INTO public.rows (n) VALUES (-41); END$$', 'a block that writes' ],
	[ 'EXPLAIN ANALYZE INSERT INTO rows (n) VALUES (-42)', 'EXPLAIN ANALYZE of a write' ],
	[ 'SELECT 1 AS n INTO never',               'SELECT INTO' ],
	[ q{COPY rows (n) FROM '/dev/null'},        'COPY FROM' ],
	[ 'CREATE TABLE never (n int)',             'CREATE TABLE' ],
	[ 'CREATE TEMP TABLE never (n int)',        'CREATE TEMP TABLE' ],
	[ 'DROP TABLE rows',                        'DROP TABLE' ],
	[ 'TRUNCATE rows',                          'TRUNCATE' ],
	[ 'CREATE ROLE never',                      'CREATE ROLE' ],
	[ 'CREATE INDEX CONCURRENTLY never ON rows (n)', 'CREATE INDEX CONCURRENTLY' ],
	[ 'VACUUM rows',                            'VACUUM' ],
	[ 'VACUUM FULL rows',                       'VACUUM FULL' ],
	[ 'ANALYZE rows',                           'ANALYZE' ],
	[ 'REINDEX TABLE rows',                     'REINDEX' ],
	[ "NOTIFY news, 'of an admin'",             'NOTIFY of an admin' ],
	[ q{COMMIT PREPARED 'kept'},                'COMMIT PREPARED' ],
	[ q{ROLLBACK PREPARED 'kept'},              'ROLLBACK PREPARED' ],
	[ 'CREATE DATABASE never',                  'CREATE DATABASE' ],
	[ 'DROP DATABASE victim',                   'DROP DATABASE' ],
	[ 'ALTER DATABASE victim RENAME TO gone',   'ALTER DATABASE' ]);
is($cluster->psql('n1', q{SELECT datconnlimit FROM pg_database WHERE datname = 'victim'}), -1,
	'the database that was not dropped is valid');
is($cluster->psql('n1', 'SELECT 1', db => 'victim'), 1, 'and takes connections');
is(directories(), $databases, 'no database left files behind, or lost them');
is($cluster->psql('n1', q{SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'kept'}), 1, 'the prepared transaction is there');

# New connections.
foreach my $over (qw(socket net))
{
	is(($cluster->ask('n1', 'SELECT 1', over => $over))[0], '57P03', "a new connection ($over)");
	is(($cluster->ask('n1', 'SELECT 1', over => $over, user => 'postgres'))[0], 'ok', "one of an admin ($over)");
}

# Commits that had passed the gate: cancelled, terminated, released.
foreach my $case (
	[ $cancelled, $cancelled_pid, 'cancel',    'a statement cancelled in its wait' ],
	[ $commit,    $commit_pid,    'cancel',    'COMMIT cancelled in its wait' ],
	[ $preparing, $preparing_pid, 'cancel',    'PREPARE TRANSACTION cancelled in its wait' ],
	[ $deciding,  $deciding_pid,  'cancel',    'COMMIT PREPARED cancelled in its wait' ],
	[ $calling,   $calling_pid,   'cancel',    'a procedure cancelled in the wait of its commit' ],
	[ $ended,     $ended_pid,     'terminate', 'a statement terminated in its wait' ])
{
	my ($session, $pid, $how, $what) = @$case;
	$cluster->psql('n1', "SELECT pg_${how}_backend($pid)");
	unanswered($session, $what);
}
$cluster->set_line('n1', 'synchronous_standby_names', '');
ok($cluster->run_on('n1', {}, 'pg_ctl', '-D', $cluster->data('n1'), 'reload')->{ok}, 'the setting is reloaded');
unanswered($released, 'a statement whose wait ends');

# etcd is back.
$cluster->start_etcd;
$cluster->poll_until(sub { $app->query('INSERT INTO rows (n) VALUES (-50)')->{ok} }, 20, 'the session to go on');
is($app->query('SELECT pg_backend_pid()')->{out}, $backend, 'back: the same session');
is($cluster->wait_for_leader, 'n1', 'back: the same leader');
is($cluster->term('n1'), $term, 'back: in the same term');
is($cluster->psql('n1', 'SELECT string_agg(n::text, \' \' ORDER BY n DESC) FROM rows WHERE n < 0 AND n NOT BETWEEN -29 AND -20 AND n NOT IN (-90, -11)'),
	'-1 -50', 'back: what was refused is not there');
is($cluster->psql('n1', q{SELECT count(*) FROM pg_class WHERE relname = 'never'}), 0, 'back: no new table');
ok(session('postgres', q{COMMIT PREPARED 'kept'}), 'back: the prepared transaction is committed');
is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n = -10'), 1, 'back: with its row');
ok(session('SELECT count(*) FROM rows'), 'back: new connections');
ok($listen->query("NOTIFY news, 'again'")->{ok}, 'back: NOTIFY');
$cluster->psql('n1', 'DROP DATABASE victim');
pass('back: DROP DATABASE');
$cluster->remember('n2');
is($cluster->postmaster_pid('n1'), $cluster->{before}{n1}{pid}, 'back: in the same process');
is($cluster->wait_for_follower('n2'), 'n1', 'back: followed by the other');
is(scalar $cluster->query_history('n1'), 1, 'back: no election');

# A standby is let in for the term that is led, and for no other (S1).
sub identify
{
	my ($options) = @_;
	return $cluster->try_psql('n1', 'IDENTIFY_SYSTEM',
		conninfo => $cluster->node_conninfo('n1') . ' replication=true' . ($options ? " options='$options'" : ''));
}
ok(identify("-cpg_elector.upstream_term=$term")->{ok}, 'a stream for the term that is led');
my $other = identify('-cpg_elector.upstream_term=' . ($term + 1));
ok(!$other->{ok}, 'none for another term');
like($other->{err}, qr/does not lead the term that is to be followed/, 'and the error says why');
ok(identify('')->{ok}, 'one that follows nobody is not asked');

done_testing();
