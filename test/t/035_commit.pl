# A session that asks for less than the durability policy: its commits wait for a
# follower all the same, of whatever kind they are.  Each hole is shown on a plain
# pair first.  The follower writes what it receives and does not flush it, so that
# nobody but the leader holds it.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my %settings = (autovacuum => 'off', wal_level => 'logical', max_prepared_transactions => 20,
	wal_retrieve_retry_interval => '300ms');

sub pair
{
	my ($plain) = @_;
	my $cluster = ElectorCluster->new(nodes => 2, plain => $plain, ttl => '10s', settings => {%settings});
	$cluster->preload_stage('before');
	$cluster->build;
	$cluster->psql('n1', $_) foreach (
		'GRANT CREATE ON SCHEMA public TO app',
		'CREATE TABLE readings AS SELECT 1 AS n',
		'ALTER TABLE readings OWNER TO app',
		'CREATE SEQUENCE numbers',
		'ALTER SEQUENCE numbers OWNER TO app',
		'INSERT INTO rows (n) SELECT generate_series(1, 100)',
		'CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.rows (n) VALUES (-1); COMMIT; INSERT INTO public.rows (n) VALUES (-2); END$$',
		q{CREATE FUNCTION stage_run(text, bool) RETURNS int LANGUAGE c STRICT AS '} . $cluster->stage . q{'},
		'CREATE TABLE published (n int PRIMARY KEY)');
	$cluster->psql('n1', 'ALTER ROLE app SET synchronous_commit = off');
	return $cluster;
}

my @parallel = map { "SET $_" } ('force_parallel_mode = on', 'parallel_setup_cost = 0',
	'parallel_tuple_cost = 0', 'min_parallel_table_scan_size = 0');

# Name, what the session does before, the statement that commits.
my @cases = (
	[ 'a statement', [], 'INSERT INTO rows (n) VALUES (-10)' ],
	[ 'the level local', ['SET synchronous_commit = local'], 'INSERT INTO rows (n) VALUES (-11)' ],
	[ 'a level set in the transaction', [ 'SET synchronous_commit = on', 'BEGIN', 'SET LOCAL synchronous_commit = off', 'INSERT INTO rows (n) VALUES (-12)' ], 'COMMIT' ],
	[ 'COMMIT AND CHAIN', [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-13)' ], 'COMMIT AND CHAIN' ],
	[ 'a savepoint', [ 'BEGIN', 'SAVEPOINT s', 'INSERT INTO rows (n) VALUES (-14)', 'RELEASE s' ], 'COMMIT' ],
	[ 'PREPARE TRANSACTION', [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-15)' ], q{PREPARE TRANSACTION 'prepared'} ],
	[ 'COMMIT PREPARED', [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-16)', q{PREPARE TRANSACTION 'yes'} ], q{COMMIT PREPARED 'yes'} ],
	[ 'ROLLBACK PREPARED', [ 'BEGIN', 'INSERT INTO rows (n) VALUES (-17)', q{PREPARE TRANSACTION 'no'} ], q{ROLLBACK PREPARED 'no'} ],
	[ 'a procedure that commits', [], 'CALL twice()' ],
	[ 'a block that commits', [], 'DO $$BEGIN INSERT INTO public.rows (n) VALUES (-18); COMMIT; END$$' ],
	[ 'a new table of parallel workers', \@parallel, 'CREATE TABLE copied AS SELECT n FROM rows' ],
	[ 'an index', [], 'CREATE INDEX ON readings (n)' ],
	[ 'COPY FROM', [], q{COPY rows (n) FROM PROGRAM 'echo -19'}, 'postgres' ],
	[ 'nextval', [], q{SELECT nextval('numbers')} ],
	[ 'row locks', [ 'BEGIN', 'SELECT n FROM rows WHERE n = 1 FOR UPDATE' ], 'COMMIT' ],
	[ 'a large object', [], q{SELECT lo_from_bytea(0, 'large')} ]);

sub prepared_session
{
	my ($cluster, $before, $user) = @_;
	my $session = $cluster->session('n1', user => $user // 'app');
	foreach my $sql ('SET synchronous_commit = off', @$before)
	{
		my $result = $session->query($sql);
		die "$sql: $result->{err}\n" unless $result->{ok};
	}
	return $session;
}

sub workers { return $_[0]->psql('n1', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'stage worker'}) }

my $worker = q{SELECT stage_run('SET synchronous_commit = off; INSERT INTO public.rows (n) VALUES (-20)', true)};

# The publisher of what comes in by logical replication.
my $outside = ElectorCluster->new(nodes => 1, plain => 1, settings => {%settings});
$outside->init_first('n1');
$outside->start('n1');
$outside->psql('n1', $_) foreach ('CREATE TABLE published (n int PRIMARY KEY)', 'CREATE PUBLICATION everything FOR TABLE published');
my $number = 0;

sub subscribe
{
	my ($cluster, $name) = @_;
	$cluster->psql('n1', "CREATE SUBSCRIPTION $name CONNECTION '" . $outside->conninfo('n1')
		  . "' PUBLICATION everything WITH (two_phase = on)");
	$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT subtwophasestate FROM pg_subscription') eq 'e' },
		30, 'two_phase to be on');
	return;
}

# Has the subscriber confirmed what the publisher had written by then?
sub confirmed
{
	my ($name, $lsn) = @_;
	return $outside->psql('n1', "SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots WHERE slot_name = '$name'") eq 't';
}

sub publish
{
	my (@statements) = @_;
	my $session = $outside->session('n1', user => 'postgres');
	foreach my $sql (@statements)
	{
		$session->query($sql)->{ok} or die "$sql\n";
	}
	return $outside->psql('n1', 'SELECT pg_current_wal_lsn()');
}

sub publish_prepared
{
	my ($cluster, $n, $name) = @_;
	publish('BEGIN', "INSERT INTO published VALUES ($n)", "PREPARE TRANSACTION '$name'");
	$cluster->poll_until(sub { $cluster->psql('n1', q{SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'pg_gid%'}) == 1 },
		20, "$name to be prepared here");
	return;
}

sub apply_worker { return $_[0]->psql('n1', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'logical replication worker'}) }

#
# Without the library.
#
{
	my $plain = pair(1);
	$plain->set_durability('', 'ANY 1 (*)');
	my @sessions = map { prepared_session($plain, $_->[1], $_->[3]) } @cases;

	$plain->hold_flush;
	foreach my $i (0 .. $#cases)
	{
		my $result = $sessions[$i]->query($cases[$i][2]);
		ok($result->{ok}, "plain: $cases[$i][0] is acknowledged by the leader alone") or diag($result->{err});
	}
	my $offset = $plain->log_offset('n1');
	$plain->psql('n1', $worker);
	$plain->wait_log('n1', qr/stage worker: committed/, $offset);
	pass('plain: so is the commit of a background worker');
	$plain->release_flush;

	# What has been written, which wants a primary that writes nothing else.
	my $session = prepared_session($plain, ['SET synchronous_commit = remote_write']);
	my $flusher = $plain->psql('n1', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});
	kill 'STOP', $flusher;
	$plain->psql('n1', 'SET synchronous_commit = on; CREATE TABLE quiet ()');
	$plain->hold_flush;
	ok($session->query('INSERT INTO rows (n) VALUES (-21)')->{ok}, 'plain: remote_write is acknowledged by what is not on disk');
	kill 'CONT', $flusher;
	$plain->release_flush;

	subscribe($plain, 'plain');
	publish_prepared($plain, 1, 'plain');
	$plain->hold_flush;
	foreach my $sql ('INSERT INTO published VALUES (2)', q{COMMIT PREPARED 'plain'})
	{
		my $lsn = publish($sql);
		$plain->poll_until(sub { confirmed('plain', $lsn) }, 20, 'the publisher to be told');
		pass("plain: the publisher is told that this is safe: $sql");
	}
	$plain->release_flush;
	$plain->psql('n1', 'DROP SUBSCRIPTION plain');
	$plain->teardown;
}

#
# Under the policy.
#
my $cluster = pair(0);
subscribe($cluster, 'closed');
publish_prepared($cluster, 10, 'before');

# It comes into force when nothing is under way that does not know of it.
{
	my $hold = $cluster->base . '/hold';
	write_file($hold, '');
	my $session = prepared_session($cluster, ["SET stage.hold_before = '$hold'"]);
	$session->send('INSERT INTO rows (n) VALUES (1000)');
	$cluster->poll_until(sub { -e "$hold.held" }, 10, 'a commit to stand still');
	$cluster->reload_line($_, 'pg_elector.durability', 'any 1') foreach $cluster->nodes;
	$cluster->poll_until(sub { $cluster->psql('n1', q{SELECT sync_state FROM pg_stat_replication}) eq 'quorum' }, 20, 'the names to be loaded');
	sleep 1;
	ok(!$cluster->has_durability('any 1'), 'the policy waits for a commit that began without it');
	unlink $hold;
	ok($session->finish->{ok}, 'that is acknowledged');
	$cluster->poll_until(sub { $cluster->has_durability('any 1') }, 20, 'the policy to be in force');
	pass('and the policy comes into force');
}

my @sessions = map { prepared_session($cluster, $_->[1], $_->[3]) } @cases;
my $written  = prepared_session($cluster, ['SET synchronous_commit = remote_write']);
my $applied  = prepared_session($cluster, ['SET synchronous_commit = remote_apply']);
my @pids = map { $_->backend } @sessions;

like($sessions[10]->query('EXPLAIN SELECT n FROM rows')->{out}, qr/^Gather/, 'parallel workers are used');
$written->backend;
$cluster->hold_flush;
foreach my $i (0 .. $#cases)
{
	$sessions[$i]->send($cases[$i][2]);
	$cluster->wait_for_commit_wait('n1', $pids[$i]);
	pass("$cases[$i][0] waits for the follower");
}
$written->send('INSERT INTO rows (n) VALUES (-21)');
$cluster->wait_for_commit_wait('n1', $written->backend);
pass('remote_write waits until it is on disk');
my $offset = $cluster->log_offset('n1');
$cluster->psql('n1', $worker);
$cluster->wait_for_commit_wait('n1', workers($cluster));
pass('the commit of a background worker waits');

is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n < 0'), 0, 'nothing of that is visible');
$cluster->release_flush;
foreach my $i (0 .. $#cases)
{
	my $result = $sessions[$i]->finish;
	ok($result->{ok}, "$cases[$i][0] is acknowledged then") or diag($result->{err});
}
ok($written->finish->{ok}, 'so is remote_write');
$cluster->wait_log('n1', qr/stage worker: committed/, $offset);
pass('and the background worker goes on');
is($cluster->psql('n1', q{SELECT string_agg(n::text, ' ' ORDER BY n DESC) FROM rows WHERE n < 0}),
	'-1 -2 -10 -11 -12 -13 -14 -16 -18 -19 -20 -21', 'all of it is visible');

# What the session has set is what it has set.
is($sessions[0]->query('SHOW synchronous_commit')->{out}, 'off', 'the level of the session is what it was');
is($sessions[1]->query('SHOW synchronous_commit')->{out}, 'local', 'the same after local');
is($sessions[2]->query('SHOW synchronous_commit')->{out}, 'on', 'the same after SET LOCAL');
is($sessions[3]->query('SHOW synchronous_commit')->{out}, 'off', 'the same in a chained transaction');
is($sessions[5]->query('SHOW synchronous_commit')->{out}, 'off', 'the same after PREPARE TRANSACTION');
is($sessions[6]->query('SHOW synchronous_commit')->{out}, 'off', 'the same after COMMIT PREPARED');
$sessions[3]->query('COMMIT');
ok(!$sessions[6]->query(q{COMMIT PREPARED 'yes'})->{ok}, 'COMMIT PREPARED of nothing fails');
is($sessions[6]->query('SHOW synchronous_commit')->{out}, 'off', 'and the level is what it was');

# A commit that fails after it was let through: two transactions, of which each
# does not see what the other writes.
{
	my ($one, $two) = map {
		prepared_session($cluster, [ 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'SELECT sum(n) FROM rows', "INSERT INTO rows (n) VALUES (-3$_)" ])
	} (0, 1);
	ok($one->query('COMMIT')->{ok}, 'the first of two serializable transactions commits');
	is($two->query('COMMIT')->{sqlstate}, '40001', 'the commit of the second one fails');
	is($two->query('SHOW synchronous_commit')->{out}, 'off', 'and the level is what it was');
}

# A level above is left alone.
$cluster->psql('n2', 'SELECT pg_wal_replay_pause()');
$cluster->poll_until(sub { $cluster->psql('n2', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' }, 10, 'replay to pause');
$applied->backend;
$applied->send('INSERT INTO rows (n) VALUES (-40)');
$cluster->wait_for_commit_wait('n1', $applied->backend);
ok($sessions[0]->query('INSERT INTO rows (n) VALUES (-41)')->{ok}, 'what is on disk is acknowledged');
is($cluster->wait_event('n1', $applied->backend), 'SyncRep', 'remote_apply goes on waiting');
$cluster->psql('n2', 'SELECT pg_wal_replay_resume()');
ok($applied->finish->{ok}, 'until it is applied');
is($applied->query('SHOW synchronous_commit')->{out}, 'remote_apply', 'and stays set');

# Logical replication: the publisher forgets what it is told is safe.  The worker was
# there before the policy, and the first thing it hears of is the decision on what was
# prepared, which asks no callback.
foreach my $case ([q{COMMIT PREPARED 'before'}], [ 'INSERT INTO published VALUES (12)', 12 ], [ q{COMMIT PREPARED 'closed'}, 11 ])
{
	my ($sql, $n) = @$case;
	publish_prepared($cluster, 11, 'closed') if $sql =~ /closed/;
	$cluster->hold_flush;
	my $lsn = publish($sql);
	$cluster->wait_for_commit_wait('n1', apply_worker($cluster));
	ok(!confirmed('closed', $lsn), "the publisher is not told: $sql");
	is($cluster->psql('n1', "SELECT count(*) FROM published WHERE n = $n"), 0, 'nor is it visible') if $n;
	$cluster->release_flush;
	$cluster->poll_until(sub { confirmed('closed', $lsn) }, 20, 'the publisher to be told');
	pass('but when the follower has it');
}

# The worker ends while its commit waits: still nothing is told.
$cluster->hold_flush;
my $lsn = publish('INSERT INTO published VALUES (13)');
my $apply = apply_worker($cluster);
$offset = $cluster->log_offset('n1');
$cluster->wait_for_commit_wait('n1', $apply);
$cluster->psql('n1', "SELECT pg_terminate_backend($apply)");
$cluster->wait_log('n1', qr/terminating logical replication worker/, $offset);
ok(!confirmed('closed', $lsn), 'the publisher is not told by a worker that is ended');
$cluster->release_flush;
$cluster->poll_until(sub { confirmed('closed', $lsn) }, 30, 'the publisher to be told');
is($cluster->psql('n1', 'SELECT count(*) FROM published'), 6, 'and nothing is applied twice, nor lost');
$cluster->psql('n1', 'DROP SUBSCRIPTION closed');

# Where nothing is amiss, none of this is noticed: no session ends, whatever commits
# beside each other, with records of all lengths, with WAL of its own and without.
$cluster->psql('n1', $_) foreach ('CREATE UNLOGGED TABLE unlogged (n int)', 'GRANT ALL ON unlogged TO app');
my %scripts = (
	plain => 'INSERT INTO rows (n) VALUES (-100);',
	level => "BEGIN; SET LOCAL synchronous_commit = remote_apply; INSERT INTO rows (n) VALUES (-100); COMMIT AND CHAIN; SELECT n FROM rows LIMIT 1; COMMIT;",
	temporary => 'CREATE TEMP TABLE IF NOT EXISTS own (n int) ON COMMIT DELETE ROWS; BEGIN; INSERT INTO own VALUES (1); COMMIT; INSERT INTO unlogged VALUES (1);',
	notify => "LISTEN news; NOTIFY news; BEGIN; INSERT INTO rows (n) VALUES (-100); NOTIFY news; COMMIT;",
	number => "SELECT nextval('numbers'); SELECT txid_current();",
	nested => "BEGIN; INSERT INTO rows (n) VALUES (-100); SAVEPOINT s; INSERT INTO rows (n) VALUES (-100); ROLLBACK TO s; COMMIT; CALL twice();",
	two => join "\n", '\\set k random(0, 3000)', '\\set r random(1, 1000000000)', 'BEGIN;',
		'DO $$BEGIN FOR i IN 1 .. :k LOOP BEGIN INSERT INTO public.rows (n) VALUES (-100); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END$$;',
		q{PREPARE TRANSACTION 'p:client_id-:r';}, '\\if :r % 2', q{COMMIT PREPARED 'p:client_id-:r';}, '\\else', q{ROLLBACK PREPARED 'p:client_id-:r';}, '\\endif');
my @files;
foreach my $name (sort keys %scripts)
{
	push @files, '-f', my $path = $cluster->base . "/$name.sql";
	write_file($path, $scripts{$name} =~ s/; /;\n/gr . "\n");
}
$offset = $cluster->log_offset('n1');
my $load = $cluster->run_on('n1', { timeout => 120 }, 'pgbench', '-n', '-c', 12, '-T', 6, @files, $cluster->conninfo('n1', user => 'app'));
ok($load->{ok} && $load->{err} !~ /aborted|FATAL|lost/, 'all that commits at once goes on') or diag("$load->{out}$load->{err}");
note($1) if $load->{out} =~ /(number of transactions actually processed: .*)/;
unlike($cluster->log_since('n1', $offset), qr/without an answer|ERROR/, 'no session ended');

unlike($cluster->log_since('n1', 0), qr/PANIC|TRAP|terminated by signal/, 'no server has crashed');

done_testing();
