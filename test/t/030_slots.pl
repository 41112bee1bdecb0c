# Replication slots: every node keeps one for each other member, so whoever was
# away finds its WAL, also on a new leader.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

# What a connection string says must not change a standby's name.
{
	no warnings 'redefine';
	my $conninfo = \&ElectorCluster::node_conninfo;
	*ElectorCluster::node_conninfo =
	  sub { return $conninfo->(@_) . ' application_name=mine options=-capplication_name=theirs' };
}

# No WAL is kept but by slots.
my $cluster = ElectorCluster->new(
	nodes    => 3,
	ttl      => '4s',
	reserve  => 1,
	settings => { wal_keep_size => 0, max_wal_size => '64MB', min_wal_size => '32MB', wal_level => 'logical',
		hot_standby_feedback => 'on' })->build;

# What a node has: names, with * where a slot is in use.
sub slots
{
	my ($node) = @_;
	return $cluster->psql($node, q{SELECT coalesce(string_agg(slot_name || CASE WHEN active THEN '*' ELSE '' END, ' '
		ORDER BY slot_name), '') FROM pg_replication_slots});
}

sub wait_for_slots
{
	my ($node, $wanted, $name) = @_;
	my $slots;
	eval { $cluster->poll_until(sub { ($slots = slots($node)) eq $wanted }, 20, "slots of $node: $wanted"); };
	return is($slots, $wanted, $name);
}

sub slot
{
	my ($node, $slot, $what) = @_;
	return $cluster->psql($node, "SELECT $what FROM pg_replication_slots WHERE slot_name = '$slot'");
}

# More WAL than is kept without a slot, with checkpoints behind it, on these nodes.
sub move_on
{
	my ($leader, @others) = @_;
	foreach (1 .. 4)
	{
		$cluster->psql($leader, 'INSERT INTO rows (n) SELECT 1 FROM generate_series(1, 1000)');
		$cluster->psql($leader, 'SELECT pg_switch_wal()');
		$cluster->psql($leader, 'CHECKPOINT', timeout => 60);
	}
	foreach my $node (@others)
	{
		$cluster->wait_for_follower($node);
		$cluster->psql($node, 'CHECKPOINT', timeout => 60);
	}
	return;
}

# The node comes back as it is.
sub returns
{
	my ($node, $leader, $name) = @_;
	my $offset = $cluster->log_offset($node);

	$cluster->start($node);
	is($cluster->wait_for_follower($node), $leader, "$name: streams again");
	unlike($cluster->log_since($node, $offset), qr/pg_rewind|pg_basebackup|without replication slot/,
		"$name: by its slot, and as it is");
	return;
}

#
# Made on every node, and used on the leader.
#
wait_for_slots('n1', 'pg_elector_n2* pg_elector_n3*', 'the leader has slots, which are used');
wait_for_slots('n2', 'pg_elector_n1 pg_elector_n3',   'and so has a follower');
wait_for_slots('n3', 'pg_elector_n1 pg_elector_n2',   'and the other');
is($cluster->psql('n2', 'SELECT slot_name FROM pg_stat_wal_receiver'), 'pg_elector_n2', 'a follower uses its own');

# Those of others, whatever they are called.
$cluster->psql('n1', q{SELECT pg_create_physical_replication_slot('mine', true)});
$cluster->psql('n1', q{SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')});
$cluster->psql('n1', q{SELECT pg_create_physical_replication_slot('pg_elector_odd', true)});
$cluster->psql('n2', q{SELECT pg_create_physical_replication_slot('mine', true)});
$cluster->psql('n2', q{SELECT pg_create_physical_replication_slot('pg_elector_n7')});
my $foreign = 'slot_name, slot_type, restart_lsn, confirmed_flush_lsn, wal_status';
sub foreign
{
	return join "\n", map { $cluster->psql($_, "SELECT $foreign FROM pg_replication_slots
		WHERE slot_name !~ '^pg_elector_n[123]' ORDER BY 1") } qw(n1 n2);
}
my $before = foreign();

#
# A follower that was away.
#
$cluster->stop('n3');
move_on('n1', 'n2');
ok($cluster->psql('n1', q{SELECT count(*) FROM pg_ls_waldir(), pg_replication_slots
	WHERE slot_name = 'pg_elector_n3' AND name = pg_walfile_name(restart_lsn)}), 'away: the leader has its WAL');
returns('n3', 'n1', 'away');
wait_for_slots('n1', 'mine pg_elector_n2* pg_elector_n3* pg_elector_odd theirs', 'away: the slots are as before');
is(foreign(), $before, 'away: those of others have not been touched');

# What nobody needs is not kept.
$cluster->psql('n1', "SELECT pg_drop_replication_slot('$_')") foreach qw(mine theirs pg_elector_odd);
$cluster->psql('n2', "SELECT pg_drop_replication_slot('$_')") foreach qw(mine pg_elector_n7);
move_on('n1', 'n2', 'n3');
foreach my $node (qw(n1 n2 n3))
{
	$cluster->poll_until(
		sub {
			$cluster->psql($node, 'CHECKPOINT', timeout => 60);
			$cluster->psql($node, q{SELECT max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery()
				THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)) <= 32 * 1024 * 1024
				FROM pg_replication_slots}) eq 't';
		},
		30, "slots of $node to move");
	pass("no longer: WAL is not kept on $node");
}

#
# A switchover: slots and names are right on both, at once.
#
sub switch
{
	my ($from, $to) = @_;
	my $offset = $cluster->log_offset($from);
	my $pid    = $cluster->postmaster_pid($from);
	my $after;

	$cluster->psql($from, "SELECT elector_switchover('$to')", timeout => 30);
	$cluster->poll_until(
		sub {
			my $result = $cluster->try_psql($to, "SELECT extract(epoch FROM backend_start - opened_at)
				FROM pg_stat_replication, (SELECT * FROM elector_history ORDER BY term DESC LIMIT 1) AS h
				WHERE application_name = '$from' AND state = 'streaming' AND leader = '$to'");
			$after = $result->{out};
			return $result->{ok} && $after ne '';
		},
		20, "$from to stream from $to");
	cmp_ok($after, '<', 2, "switchover: the old leader streams $after s after the new one takes writes");
	is($cluster->postmaster_pid($from), $pid, 'switchover: in the same process id');
	unlike($cluster->log_since($from, $offset), qr/rewind|without replication slot|does not exist/,
		'switchover: not rewound, and its slot was there');
	$cluster->wait_for_leader(exclude => $from);
	return;
}

switch('n1', 'n2');
wait_for_slots('n2', 'pg_elector_n1* pg_elector_n3*', 'switchover: the new leader has slots, which are used');
wait_for_slots('n1', 'pg_elector_n2 pg_elector_n3',   'switchover: the old one has them');
$cluster->wait_for_follower($_) foreach qw(n1 n3);
$cluster->poll_until(
	sub { $cluster->psql('n1', 'SELECT count(*) FROM pg_replication_slots WHERE xmin IS NOT NULL') == 0 },
	20, 'slots that hold no rows');
pass('switchover: where a slot is not used it holds no old rows');

#
# The same names on all nodes make any leader wait for any follower.
#
$cluster->reload_line($_, synchronous_standby_names => 'ANY 1 (n1, n2, n3)') foreach $cluster->nodes;
sub check_synchronous
{
	my ($leader) = @_;
	my @followers = grep { $_ ne $leader } $cluster->nodes;

	$cluster->wait_for_follower($_) foreach @followers;
	$cluster->poll_until(
		sub {
			$cluster->psql($leader, q{SELECT string_agg(application_name || ' ' || sync_state, ', '
				ORDER BY application_name) FROM pg_stat_replication}) eq join ', ', map { "$_ quorum" } @followers;
		},
		20, "the followers of $leader to be synchronous");
	pass("synchronous: the followers of $leader are known by their names");

	# Nobody acknowledges, and then one does.
	my @receivers = map { $cluster->psql($_, 'SELECT pid FROM pg_stat_wal_receiver') } @followers;
	kill 'STOP', @receivers;
	my $session = $cluster->session($leader);
	$session->send('INSERT INTO rows (n) VALUES (7)');
	$cluster->poll_until(
		sub { $cluster->psql($leader, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) == 1 },
		10, 'the commit to wait');
	kill 'CONT', $receivers[0];
	ok($session->finish->{ok}, "synchronous: a commit on $leader waits for one of them");
	kill 'CONT', $receivers[1];
	return;
}
check_synchronous('n2');
switch('n2', 'n1');
check_synchronous('n1');
$cluster->reload_line($_, synchronous_standby_names => '') foreach $cluster->nodes;

#
# Away while the leader changes, twice; the old leader is rewound in between, which
# takes its slots away.
#
$cluster->stop('n3');
move_on('n1', 'n2');
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'over a failover: another leads');
move_on('n2');
returns('n3', 'n2', 'over a failover');
$cluster->stop('n3');
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
move_on('n2', 'n1');

# It parts from the others: it alone has written something.
$cluster->cut('n1', from => ['n2']);
$cluster->psql('n2', 'INSERT INTO rows (n) SELECT 8 FROM generate_series(1, 100)');
$cluster->psql('n2', q{SELECT pg_create_physical_replication_slot('mine', true)});
$cluster->psql('n2', q{SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')});
my $mine = slot('n2', 'mine', 'restart_lsn');
$cluster->kill_postmaster('n2');
is($cluster->wait_for_leader(exclude => 'n2'), 'n1', 'over a rewind: the one that has less leads');
$cluster->heal('n1');
move_on('n1');
my $offset = $cluster->log_offset('n2');
$cluster->wait_for_no_process('n2');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
like($cluster->log_since('n2', $offset), qr/pg_rewind: Done/, 'over a rewind: the old leader was rewound');
wait_for_slots('n2', 'mine pg_elector_n1 pg_elector_n3', 'over a rewind: and has its slots, but the logical one');
is(slot('n2', 'mine', 'restart_lsn'), $mine, 'over a rewind: that of somebody else is as it was');
$cluster->psql('n2', q{SELECT pg_drop_replication_slot('mine')});
move_on('n1', 'n2');
switch('n1', 'n2');
move_on('n2', 'n1');
returns('n3', 'n2', 'over a rewind');
$cluster->remember;
$cluster->check_whole('over all that');

#
# max_slot_wal_keep_size is PostgreSQL's: who lags more has lost its WAL, and nobody
# is held up by that.
#
$cluster->reload_line('n2', max_slot_wal_keep_size => '16MB');
$cluster->psql('n2', q{SELECT pg_create_physical_replication_slot('mine', true)});
$cluster->stop('n1');
my $kept = slot('n2', 'pg_elector_n1', 'restart_lsn');
$offset = $cluster->log_offset('n2');
move_on('n2');
$cluster->wait_log('n2', qr/invalidating slot "pg_elector_n1"/, $offset);
$cluster->poll_until(
	sub { slot('n2', 'pg_elector_n1', "wal_status <> 'lost' AND restart_lsn > '$kept'") eq 't' },
	20, 'the lost slot to be made anew');
pass('too far behind: the slot is made anew');
is(slot('n2', 'mine', 'wal_status'), 'lost', 'too far behind: that of somebody else is left as it is');
$cluster->psql('n2', q{SELECT pg_drop_replication_slot('mine')});
$cluster->reload_line('n2', max_slot_wal_keep_size => -1);

#
# A node that is no member any more; its name had not fitted.
#
$cluster->{reserve} = 0;
$cluster->add_node('n4', from => 'n2', name => 'Db-4.x');
$cluster->start('n4');
my $odd = $cluster->poll_until(sub { slots('n2') =~ /^(pg_elector_db_4_x_[0-9a-f]{8})\* / && $1 }, 20, 'the slot of n4');
pass('removed: a name that does not fit got a hash');
wait_for_slots('n3', "$odd pg_elector_n1 pg_elector_n2", 'removed: a follower has it, too');
$cluster->stop('n4');
$cluster->wait_for_status('n2', 'Db-4.x', { state => 'down' });
$cluster->psql('n2', q{SELECT elector_remove_member('Db-4.x')});
wait_for_slots('n2', 'pg_elector_n1 pg_elector_n3*', 'removed: the slot is gone on the leader');
wait_for_slots('n3', 'pg_elector_n1 pg_elector_n2',  'removed: and on a follower');
my @nodes = grep { $_ ne 'n4' } $cluster->nodes;
$cluster->{node_list} = \@nodes;

#
# Switched off, and too few.
#
$cluster->psql('n3', q{ALTER SYSTEM SET primary_slot_name = 'own'});
$cluster->psql('n2', q{SELECT pg_create_physical_replication_slot('own', true)});
$cluster->reload_line('n3', 'pg_elector.slots' => 'off');
wait_for_slots('n2', 'own* pg_elector_n1 pg_elector_n3', 'off: the node follows by the slot that was set before');
wait_for_slots('n3', '',                                 'off: and keeps none');
is($cluster->wait_for_follower('n3'), 'n2', 'off: streams');
$cluster->reload_line('n3', 'pg_elector.slots' => 'on');
wait_for_slots('n2', 'own pg_elector_n1 pg_elector_n3*', 'on: by its own again');
wait_for_slots('n3', 'pg_elector_n1 pg_elector_n2',      'on: and keeps them');
$cluster->psql('n2', q{SELECT pg_drop_replication_slot('own')});

# A leader without room is followed all the same.
$cluster->psql('n2', q{SELECT pg_create_logical_replication_slot('pg_elector_n5', 'test_decoding')});
$cluster->add_node('n5', from => 'n2', settings => { max_replication_slots => 1 });
$cluster->start('n5');
$cluster->poll_until(
	sub { $cluster->psql('n2', q{SELECT count(*) FROM pg_stat_replication WHERE application_name = 'n5' AND state = 'streaming'}) == 1 },
	20, 'n5 to stream without its slot');
my $count = () = $cluster->log_since('n2', 0) =~ /replication slot "pg_elector_n5" is left alone, since it is logical/g;
is($count, 1, 'too few: a slot that cannot be had is noted once');
$cluster->wait_for_status('n2', 'n5', { detail => qr/max_replication_slots is too small/ });
pass('too few: elector_status says so');
switch('n2', 'n5');
$cluster->wait_for_follower($_) foreach qw(n2 n3);
is(scalar(split / /, slots('n5')), 1, 'too few: there is one');
is($cluster->psql('n5', q{SELECT count(*) FROM pg_stat_replication WHERE application_name ~ '^n[23]$'}), 2,
	'too few: and all stream');
$count = () = $cluster->log_since('n5', 0) =~ /not every member has a replication slot/g;
is($count, 1, 'too few: noted once');

done_testing();
