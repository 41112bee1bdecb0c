# What may not end the wait of a commit with success: a cancel, a timeout, the end
# of the backend or of the server, a cancel that comes a moment too early, and
# synchronous_standby_names that are emptied.  A cancel is put off; after all else
# the connection ends without an answer.  Each hole is shown on a plain pair first.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

use constant { INT => 2, TERM => 15 };

sub pair
{
	my ($plain) = @_;
	my $cluster = ElectorCluster->new(nodes => 2, plain => $plain, ttl => '60s',
		settings => { autovacuum => 'off', max_prepared_transactions => 20 });
	$cluster->preload_stage('before');
	$cluster->build;
	$cluster->psql('n1', $_) foreach (
		'CREATE PROCEDURE twice(int) LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.rows (n) VALUES ($1); COMMIT; INSERT INTO public.rows (n) VALUES ($1 - 1); END$$',
		q{CREATE FUNCTION stage_run(text, bool) RETURNS int LANGUAGE c STRICT AS '} . $cluster->stage . q{'});
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

# Sessions whose statements wait for the follower: one for each case.
sub waiting
{
	my ($cluster, @cases) = @_;
	my @sessions = map { session($cluster, @{ $_->{before} // [] }) } @cases;
	$cluster->hold_flush;
	foreach my $i (0 .. $#cases)
	{
		$sessions[$i]->send($cases[$i]{sql});
		$cluster->wait_for_commit_wait('n1', $sessions[$i]->backend);
	}
	return @sessions;
}

# No signal is pending that the process has not handled.
sub wait_handled
{
	my ($cluster, $pid) = @_;
	$cluster->poll_until(sub { read_file("/proc/$pid/status") !~ /^S(?:hd|ig)Pnd:\s*0*[1-9a-f]/m },
		10, "process $pid to handle its signals");
	return;
}

sub visible { my ($cluster, $n) = @_; return $cluster->psql('n1', "SELECT count(*) FROM rows WHERE n = $n") }

sub unanswered
{
	my ($session, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $result = $session->finish(20);
	ok(!$result->{timed_out} && !$result->{alive}, "$what: the connection ends without an answer")
	  or diag("timed out: $result->{timed_out}, $result->{sqlstate} $result->{out} $result->{err}");
	return;
}

sub cancel    { $_[0]->psql('n1', "SELECT pg_cancel_backend($_[1])") }
sub terminate { $_[0]->psql('n1', "SELECT pg_terminate_backend($_[1])") }

my @canceled = (
	{ name => 'a statement', sql => 'INSERT INTO rows (n) VALUES (-10)', row => -10 },
	{ name => 'COMMIT', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-11)' ], sql => 'COMMIT', row => -11 },
	{ name => 'COMMIT AND CHAIN', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-12)' ], sql => 'COMMIT AND CHAIN', row => -12 },
	{ name => 'PREPARE TRANSACTION', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-13)' ], sql => q{PREPARE TRANSACTION 'prepared'} },
	{ name => 'COMMIT PREPARED', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-14)', q{PREPARE TRANSACTION 'yes'} ], sql => q{COMMIT PREPARED 'yes'}, row => -14 },
	{ name => 'ROLLBACK PREPARED', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-15)', q{PREPARE TRANSACTION 'no'} ], sql => q{ROLLBACK PREPARED 'no'} },
	{ name => 'a procedure', sql => 'CALL twice(-20)', row => -20, goes_on => 'user request' },
	{ name => 'a block', sql => 'DO $$BEGIN INSERT INTO public.rows (n) VALUES (-22); COMMIT; PERFORM pg_sleep(0); END$$', row => -22, goes_on => 'user request' },
	{ name => 'statement_timeout in a procedure', before => [q{SET statement_timeout = '300ms'}], sql => 'CALL twice(-24)', row => -24,
		by => sub { }, goes_on => 'statement timeout' });

# These do not end a wait in PostgreSQL, either.
my @timeouts = ({ sql => join ' \; ', (map { "SET $_ = '100ms'" } qw(statement_timeout lock_timeout idle_session_timeout idle_in_transaction_session_timeout)),
		'INSERT INTO rows (n) VALUES (-17)' });

my @terminated = (
	{ name => 'a statement', sql => 'INSERT INTO rows (n) VALUES (-30)' },
	{ name => 'what follows COMMIT AND CHAIN', sql => 'BEGIN \; INSERT INTO rows (n) VALUES (-31) \; COMMIT AND CHAIN \; INSERT INTO rows (n) VALUES (-32) \; COMMIT' },
	{ name => 'PREPARE TRANSACTION', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-33)' ], sql => q{PREPARE TRANSACTION 'ended'} },
	{ name => 'COMMIT PREPARED', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-34)', q{PREPARE TRANSACTION 'decided'} ], sql => q{COMMIT PREPARED 'decided'} },
	{ name => 'a procedure', sql => 'CALL twice(-35)' });

# The signal comes when nothing can undo the commit any more, before it waits.
my @early = (
	{ name => 'a statement', sql => 'INSERT INTO rows (n) VALUES (-40)' },
	{ name => 'COMMIT', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-41)' ], sql => 'COMMIT' },
	{ name => 'PREPARE TRANSACTION', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-42)' ], sql => q{PREPARE TRANSACTION 'early'} },
	{ name => 'COMMIT PREPARED', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-43)', q{PREPARE TRANSACTION 'early yes'} ], sql => q{COMMIT PREPARED 'early yes'} },
	{ name => 'ROLLBACK PREPARED', before => [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-44)', q{PREPARE TRANSACTION 'early no'} ], sql => q{ROLLBACK PREPARED 'early no'} },
	{ name => 'a procedure', sql => 'CALL twice(-45)', goes_on => 1 });

sub start_early
{
	my ($cluster, $signal, @cases) = @_;
	my @sessions = map { session($cluster, @{ $_->{before} // [] }, "SET stage.signal = $signal") } @cases;
	$cluster->hold_flush;
	$sessions[$_]->send($cases[$_]{sql}) foreach 0 .. $#cases;
	return @sessions;
}

sub run_worker
{
	my ($cluster, $n, $handles) = @_;
	my $pid = $cluster->psql('n1', "SELECT stage_run('INSERT INTO public.rows (n) VALUES ($n)', $handles)");
	$cluster->wait_for_commit_wait('n1', $pid);
	return $pid;
}

#
# Without the library.
#
{
	my $plain = pair(1);
	my @sessions = waiting($plain, @canceled);
	foreach my $i (0 .. $#canceled)
	{
		my ($case, $session) = ($canceled[$i], $sessions[$i]);
		($case->{by} // \&cancel)->($plain, $session->backend);
		if ($case->{goes_on})
		{
			$plain->poll_until(sub { visible($plain, $case->{row}) }, 10, 'the commit to become visible');
			pass("plain: $case->{name} goes on");
			next;
		}
		my $result = $session->finish;
		ok($result->{ok}, "plain: $case->{name} succeeds when canceled") or diag($result->{err});
		like($result->{err}, qr/might not have been replicated/, "plain: $case->{name}: with a warning");
	}
	my $offset = $plain->log_offset('n1');
	cancel($plain, run_worker($plain, -50, 'true'));
	$plain->wait_log('n1', qr/stage worker: committed/, $offset);
	pass('plain: a background worker goes on');
	$plain->release_flush;

	@sessions = start_early($plain, INT, @early);
	foreach my $i (0 .. $#early)
	{
		my $result = $sessions[$i]->finish;
		ok($result->{ok}, "plain: an early cancel: $early[$i]{name} succeeds") or diag($result->{err});
	}
	$plain->release_flush;

	my ($session) = waiting($plain, { sql => 'INSERT INTO rows (n) VALUES (-60)' });
	$plain->reload_line('n1', 'synchronous_standby_names', '');
	ok($session->finish->{ok}, 'plain: without synchronous_standby_names a commit succeeds');
	$plain->release_flush;
	$plain->reload_line('n1', 'synchronous_standby_names', 'ANY 1 (*)');
	$plain->poll_until(sub { $plain->psql('n1', q{SELECT sync_state FROM pg_stat_replication}) eq 'quorum' }, 10, 'the setting to be loaded');

	$offset = $plain->log_offset('n1');
	$plain->hold_flush;
	kill 'TERM', run_worker($plain, -51, 'false');
	$plain->wait_log('n1', qr/PANIC:  cannot abort transaction/, $offset);
	pass('plain: a background worker that ends on the spot takes the server with it');
	$plain->teardown;
}

#
# Under the policy.
#
my $cluster  = pair(0);
my @sessions = waiting($cluster, @timeouts, @canceled);
my $quiet    = shift @sessions;
my $worker   = run_worker($cluster, -50, 'true');
my $offset   = $cluster->log_offset('n1');

foreach my $i (0 .. $#canceled)
{
	my ($case, $session) = ($canceled[$i], $sessions[$i]);
	($case->{by} // \&cancel)->($cluster, $session->backend);
}
cancel($cluster, $worker);
$cluster->psql('n1', 'SELECT pg_sleep(0.5)');    # for the timeouts
foreach my $i (0 .. $#canceled)
{
	my $case = $canceled[$i];
	wait_handled($cluster, $sessions[$i]->backend);
	is($cluster->wait_event('n1', $sessions[$i]->backend), 'SyncRep', "$case->{name} goes on waiting");
	is(visible($cluster, $case->{row}), 0, "$case->{name} is not visible") if $case->{row};
}
is($cluster->wait_event('n1', $quiet->backend), 'SyncRep', 'no other timeout ends a wait');
wait_handled($cluster, $worker);
is($cluster->wait_event('n1', $worker), 'SyncRep', 'a background worker goes on waiting');
$cluster->release_flush;
foreach my $i (0 .. $#canceled)
{
	my ($case, $result) = ($canceled[$i], $sessions[$i]->finish);
	if ($case->{goes_on})
	{
		is($result->{sqlstate}, '57014', "$case->{name} is canceled when its commit is done");
		like($result->{err}, qr/$case->{goes_on}/, "$case->{name}: for the reason that it had");
		is(visible($cluster, $case->{row} - 1), 0, "$case->{name} does not go on");
	}
	else
	{
		ok($result->{ok} && $result->{err} eq '', "$case->{name} is acknowledged by the follower") or diag($result->{err});
		ok($sessions[$i]->query('SELECT pg_sleep(0)')->{ok}, "$case->{name}: the next statement is not canceled");
	}
	is(visible($cluster, $case->{row}), 1, "$case->{name} is visible") if $case->{row};
}
ok($quiet->finish->{ok}, 'the other timeouts have no say');
$cluster->wait_log('n1', qr/stage worker: committed/, $offset);
pass('the background worker is done');
unlike($cluster->log_since('n1', $offset), qr/without an answer|might not have been replicated/, 'no wait was broken');

# Terminated.
@sessions = waiting($cluster, @terminated);
$worker   = run_worker($cluster, -51, 'false');
my $other = run_worker($cluster, -52, 'true');
$offset   = $cluster->log_offset('n1');
terminate($cluster, $_) foreach (map { $_->backend } @sessions), $worker, $other;
unanswered($sessions[$_], "terminated: $terminated[$_]{name}") foreach 0 .. $#terminated;
$cluster->wait_log('n1', qr/\[$_\] stage worker FATAL:  terminating background worker/, $offset) foreach ($worker, $other);
unlike($cluster->log_since('n1', $offset), qr/stage worker: committed|PANIC/, 'terminated: background workers end, and nothing else does');
$cluster->release_flush;
is(visible($cluster, $_), 0, "terminated: what comes after the commit is not done ($_)") foreach (-32, -36);
is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n IN (-30, -31, -34, -35, -51, -52)'), 6, 'terminated: the commits are');

# Too early: canceled.
$offset   = $cluster->log_offset('n1');
@sessions = start_early($cluster, INT, @early);
foreach my $i (0 .. $#early)
{
	$cluster->wait_for_commit_wait('n1', $sessions[$i]->backend);
	pass("an early cancel: $early[$i]{name} waits");
}
$cluster->release_flush;
foreach my $i (0 .. $#early)
{
	my $result = $sessions[$i]->finish;
	is($result->{sqlstate}, $early[$i]{goes_on} ? '57014' : '00000', "an early cancel: $early[$i]{name} is done") or diag($result->{err});
}
unlike($cluster->log_since('n1', $offset), qr/without an answer|might not have been replicated/, 'an early cancel breaks no wait');

# And terminated.
foreach my $case (@early)
{
	$case->{$_} =~ s/early/late/g, $case->{$_} =~ s/-4/-9/g foreach qw(sql);
	$case->{before} = [ map { s/early/late/r =~ s/-4/-9/r } @{ $case->{before} // [] } ];
	$offset = $cluster->log_offset('n1');
	my ($session) = start_early($cluster, TERM, $case);
	unanswered($session, "an early end: $case->{name}");
	like($cluster->log_since('n1', $offset), qr/not acknowledged as durability policy "any 1" wants it/, "an early end: $case->{name}: the log says so");
	$cluster->release_flush;
}
is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n BETWEEN -99 AND -90'), 4, 'an early end: they are committed');

# A commit that has not come so far, since another one with a notification waits.
{
	my ($first) = waiting($cluster, { sql => q{NOTIFY news \; INSERT INTO rows (n) VALUES (-70)} });
	my $second = session($cluster, 'BEGIN', 'INSERT INTO rows (n) VALUES (-71)', 'NOTIFY news');
	$second->send('COMMIT');
	$cluster->poll_until(sub { $cluster->wait_event('n1', $second->backend) eq 'object' }, 10, 'the lock to be waited for');
	cancel($cluster, $second->backend);
	is($second->finish->{sqlstate}, '57014', 'a commit that waits for a lock is canceled');
	$cluster->release_flush;
	ok($first->finish->{ok}, 'the one that has the lock is not');
	is(visible($cluster, -70) . visible($cluster, -71), '10', 'and the rows say the same');
}

# Without synchronous_standby_names.
# Somebody empties them; the worker, which would put them back, is stopped meanwhile.
sub empty_names
{
	$cluster->stop_worker('n1');
	$cluster->psql('n1', $_) foreach ('ALTER SYSTEM RESET synchronous_standby_names', 'SELECT pg_reload_conf()');
	return;
}

my $reader = session($cluster);
my $admin  = $cluster->session('n1', user => 'postgres');
empty_names();
$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT sync_state FROM pg_stat_replication') eq 'async' }, 10, 'the setting to be loaded');
foreach my $sql ('INSERT INTO rows (n) VALUES (-61)', 'CALL twice(-62)', q{COMMIT PREPARED 'prepared'})
{
	my $result = $admin->query($sql);
	is($result->{sqlstate}, '25006', "no synchronous_standby_names: refused: $sql");
	like($result->{err}, qr/no synchronous standby is configured.*HINT/s, 'and the error says why');
}
is($reader->query('SELECT count(*) FROM rows', 20)->{sqlstate}, '25006', 'no synchronous_standby_names: no reads');
$cluster->cont_worker('n1');
$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'synchronous_standby_names to be put back');
ok($admin->query(q{COMMIT PREPARED 'prepared'})->{ok}, 'synchronous_standby_names are back: what was refused can be done');
is(visible($cluster, -61) + visible($cluster, -62), 0, 'or is not there');

($sessions[0]) = waiting($cluster, { sql => 'INSERT INTO rows (n) VALUES (-60)' });
empty_names();
unanswered($sessions[0], 'no synchronous_standby_names while a commit waits');
$cluster->release_flush;
$cluster->cont_worker('n1');
$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT sync_state FROM pg_stat_replication') eq 'quorum' }, 10, 'the setting to be loaded');

# The walsender looks at what the follower has said when it says the next thing.
ok($admin->query('INSERT INTO rows (n) VALUES (-64)')->{ok}, 'a commit is acknowledged again');
is($reader->query('SELECT count(*) FROM rows WHERE n = -60')->{out}, 1, 'it is there when the follower has it');

# A fast shutdown: no answer, and the next leader has the commit.
($sessions[0]) = waiting($cluster, { sql => 'INSERT INTO rows (n) VALUES (-80)' });
kill 'INT', $cluster->postmaster_pid('n1');
unanswered($sessions[0], 'a fast shutdown');
$cluster->release_flush;
$cluster->wait_for_no_process('n1', 30);
$cluster->start('n1');
my $leader = $cluster->wait_for_leader(timeout => 30);
is($cluster->psql($leader, 'SELECT count(*) FROM rows WHERE n = -80'), 1, 'a fast shutdown: the next leader has what was not answered');

# The postmaster dies, and with it whoever could acknowledge.
my $orphan = $cluster->session($leader);
my $pid    = $orphan->backend;
$cluster->hold_flush;
$orphan->send('INSERT INTO rows (n) VALUES (-81)');
$cluster->wait_for_commit_wait($leader, $pid);
$cluster->kill_postmaster($leader);
unanswered($orphan, 'a dead postmaster');
$cluster->release_flush;

unlike($cluster->log_since('n1', 0), qr/PANIC|TRAP|terminated by signal/, 'no server has crashed');

done_testing();
