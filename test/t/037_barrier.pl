# A commit whose wait was broken is visible at once, though a failover may lose it.
# Nobody is shown it before the follower has it, by whatever way of reading, nor told
# of it by a notification.  The hole is shown on a plain pair first.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

sub pair
{
	my ($plain) = @_;
	my $cluster = ElectorCluster->new(nodes => 2, plain => $plain, ttl => '10s',
		settings => { autovacuum => 'off', max_prepared_transactions => 20 });
	$cluster->preload_stage('after');
	$cluster->build;
	$cluster->psql('n1', 'CREATE TABLE news (n int); ALTER TABLE news OWNER TO app; CREATE TABLE single AS SELECT 8 AS n; ALTER TABLE single OWNER TO app');
	$cluster->set_durability('any 1', 'ANY 1 (*)');
	return $cluster;
}

sub session
{
	my ($cluster, @statements) = @_;
	my $session = $cluster->session('n1');
	foreach my $sql (@statements)
	{
		my $result = $session->query($sql);
		die "$sql: $result->{err}\n" unless $result->{ok};
	}
	$session->backend;
	return $session;
}

# A commit waits, and its backend is ended.
sub break_wait
{
	my ($cluster, $sql, @before) = @_;
	my $session = session($cluster, @before);
	$cluster->hold_flush;
	$session->send($sql);
	$cluster->wait_for_commit_wait('n1', $session->backend);
	$cluster->psql('n1', 'SELECT pg_terminate_backend(' . $session->backend . ')');
	return $session;
}

sub ended { my ($session) = @_; return !$session->finish(20)->{alive} }

# A statement that does not go on: it waits in the library.
sub waits
{
	my ($cluster, $session, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$cluster->poll_until(sub { $cluster->wait_event('n1', $session->backend) eq 'Extension' }, 10, "$what to wait");
	pass("$what waits");
	return;
}

# Ways of reading: before, the statement.
my @readers = (
	{ name => 'SELECT', sql => 'SELECT n FROM rows WHERE n = -1' },
	{ name => 'a transaction', before => ['BEGIN'], sql => 'SELECT n FROM rows WHERE n = -1' },
	{ name => 'a prepared statement', before => ['PREPARE get AS SELECT n FROM rows WHERE n = -1'], sql => 'EXECUTE get' },
	{ name => 'COPY query', sql => 'COPY (SELECT n FROM rows WHERE n = -1) TO STDOUT' },
	{ name => 'COPY table', sql => 'COPY news TO STDOUT' },
	{ name => 'a cursor', before => [ 'BEGIN', 'SELECT 1' ], sql => 'DECLARE c CURSOR FOR SELECT n FROM rows WHERE n = -1 \; FETCH c' },
	{ name => 'a block', sql => q{DO $$BEGIN RAISE '%', (SELECT n FROM public.rows WHERE n = -1); END$$}, error => 1 },
	{ name => 'a write that looks', sql => 'UPDATE rows SET at = NULL WHERE n = -1 RETURNING n' });

# A statement that waits for the row of a commit that waits; then that is broken.
# Returns the reader, and that backend.
sub wait_for_row
{
	my ($cluster) = @_;
	my $reader  = session($cluster, 'BEGIN');
	my $session = session($cluster);
	$cluster->hold_flush;
	$session->send('UPDATE single SET n = -8');
	$cluster->wait_for_commit_wait('n1', $session->backend);
	$reader->send('SELECT n FROM single FOR UPDATE');
	$cluster->poll_until(sub { $cluster->wait_event('n1', $reader->backend) eq 'transactionid' }, 10, 'a row to be waited for');
	$cluster->psql('n1', 'SELECT pg_terminate_backend(' . $session->backend . ')');
	return ($reader, $session);
}

#
# Without the library.
#
{
	my $plain   = pair(1);
	my ($reader, $waited) = wait_for_row($plain);
	ok(ended($waited), 'plain: a row: the backend has ended');
	is($reader->finish->{out}, -8, 'plain: a row: who waited for it is shown it');
	$plain->release_flush;

	my $listen  = session($plain, 'LISTEN news');
	my $session = break_wait($plain, 'INSERT INTO rows (n) VALUES (-1) \; INSERT INTO news VALUES (-1) \; NOTIFY news');
	ok(ended($session), 'plain: the backend has ended');
	is(session($plain)->query('SELECT n FROM rows WHERE n = -1')->{out}, -1, 'plain: its row is there for all to see');
	my $lsn = $plain->psql('n1', 'SELECT pg_current_wal_lsn()');
	is($plain->psql('n1', "SELECT flush_lsn < '$lsn' FROM pg_stat_replication"), 't', 'plain: which the follower does not have');
	$plain->poll_until(sub { $listen->query('SHOW work_mem')->{out} =~ /Asynchronous notification/ }, 10, 'the notification');
	pass('plain: and listeners are told');
	$plain->teardown;
}

#
# Under the policy.
#
my $cluster = pair(0);
my $admin   = $cluster->session('n1', user => 'postgres');
my @readers_before = map { session($cluster, @{ $_->{before} // [] }) } @readers;
my $listen  = session($cluster, 'LISTEN news');
my $cancel  = session($cluster);

# A commit that waits, as all do, holds up nobody.
{
	my $session = session($cluster);
	my $reader  = session($cluster);
	$cluster->hold_flush;
	$session->send('INSERT INTO rows (n) VALUES (-2)');
	$cluster->wait_for_commit_wait('n1', $session->backend);
	my $result = $reader->query('SELECT count(*) FROM rows WHERE n = -2');
	ok($result->{ok} && $result->{out} eq '0', 'a commit that waits does not hold up readers, and is not seen');
	$cluster->release_flush;
	ok($session->finish->{ok}, 'it is acknowledged');
	is($reader->query('SELECT count(*) FROM rows WHERE n = -2')->{out}, 1, 'and seen');
}

# One that was broken does.
my $session = break_wait($cluster, 'INSERT INTO rows (n) VALUES (-1) \; INSERT INTO news VALUES (-1) \; NOTIFY news');
ok(ended($session), 'the backend has ended');
is($admin->query('SELECT n FROM rows WHERE n = -1')->{out}, -1, 'its row is visible, as an admin sees');
$readers_before[$_]->send($readers[$_]{sql}) foreach 0 .. $#readers;
waits($cluster, $readers_before[$_], $readers[$_]{name}) foreach 0 .. $#readers;
$listen->send('SHOW work_mem');
waits($cluster, $listen, 'a listener');
ok($cluster->try_psql('n1', 'SHOW work_mem', user => 'app')->{ok}, 'a new connection is let in');
$cancel->send('SELECT 1');
waits($cluster, $cancel, 'a statement');
$cluster->psql('n1', 'SELECT pg_cancel_backend(' . $cancel->backend . ')');
is($cancel->finish->{sqlstate}, '57014', 'and can be canceled');

$cluster->release_flush;
foreach my $i (0 .. $#readers)
{
	my $result = $readers_before[$i]->finish;
	my $shown  = $readers[$i]{error} ? $result->{err} : $result->{out};
	like($shown, qr/-1\b/, "$readers[$i]{name} sees it when the follower has it") or diag($result->{err});
}
like($listen->finish->{out}, qr/Asynchronous notification "news"/, 'the listener is told then');

# Two-phase: the decision, and what becomes visible by it.
$cluster->psql('n1', 'DELETE FROM rows WHERE n = -1');
$session = break_wait($cluster, q{COMMIT PREPARED 'yes'}, 'BEGIN', 'INSERT INTO rows (n) VALUES (-1)', q{PREPARE TRANSACTION 'yes'});
ok(ended($session), 'COMMIT PREPARED: the backend has ended');
my $reader = $readers_before[0];
$reader->send($readers[0]{sql});
waits($cluster, $reader, 'COMMIT PREPARED: a reader');
$cluster->release_flush;
is($reader->finish->{out}, -1, 'COMMIT PREPARED: it goes on');

# A statement that began before, and waited for the row.
{
	my ($reader, $waited) = wait_for_row($cluster);
	ok(ended($waited), 'a row: the backend has ended');
	waits($cluster, $reader, 'a row: who waited for it');
	$cluster->release_flush;
	is($reader->finish->{out}, -8, 'a row: it is shown when the follower has it');
	$reader->query('ROLLBACK');
}

# The moment between the two: the commit is visible, and its backend has not found
# out yet that nobody vouches for it.
my $hold = $cluster->base . '/hold_commit';
write_file($hold, '');
$session = break_wait($cluster, 'INSERT INTO rows (n) VALUES (-3)', "SET stage.hold_commit = '$hold'");
$cluster->poll_until(sub { $admin->query('SELECT n FROM rows WHERE n = -3')->{out} eq '-3' }, 10, 'the row to be visible');
$reader->send('SELECT n FROM rows WHERE n = -3');
waits($cluster, $reader, 'the moment between: a reader');
unlink $hold;
ok(ended($session), 'the moment between: the backend has ended');
is($cluster->wait_event('n1', $reader->backend), 'Extension', 'the moment between: the reader still waits');
$cluster->release_flush;
is($reader->finish->{out}, -3, 'the moment between: it goes on');

# Nobody waits for ever.
$listen  = session($cluster, 'LISTEN news');
$session = break_wait($cluster, 'INSERT INTO rows (n) VALUES (-4) \; NOTIFY news');
ok(ended($session), 'for ever: the backend has ended');
$reader->send('SELECT n FROM rows WHERE n = -4');
$listen->send('SHOW work_mem');
my $result = $reader->finish(20);
is($result->{sqlstate}, '25006', 'for ever: a reader is refused');
like($result->{err}, qr/not durable yet.*HINT/s, 'for ever: and told why');
$result = $listen->finish(20);
ok(!$result->{alive} && $result->{out} !~ /Asynchronous/, 'for ever: a listener loses its connection, and is told nothing');
is($admin->query('SELECT n FROM rows WHERE n = -4')->{out}, -4, 'for ever: an admin still reads');
$cluster->release_flush;
$cluster->poll_until(sub { $reader->query('SELECT n FROM rows WHERE n = -4')->{out} eq '-4' }, 10, 'readers to go on');
pass('for ever: readers go on in time');

# A cancel that came just before the commit began undoes it.
is($reader->query('SET stage.signal = 2 \; INSERT INTO rows (n) VALUES (-5)')->{sqlstate}, '57014', 'a cancel just before: an error');
is($admin->query('SELECT count(*) FROM rows WHERE n = -5')->{out}, 0, 'a cancel just before: not committed');
ok($reader->query('INSERT INTO rows (n) VALUES (-6)')->{ok}, 'a cancel just before: the session goes on');

unlike($cluster->log_since('n1', 0), qr/PANIC|TRAP|terminated by signal/, 'no server has crashed');

done_testing();
