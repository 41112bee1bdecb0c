# Standbys that are no candidates: plain ones that stream from a follower, and one
# that replays late on purpose.  They go on over every change, and hold none up.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

# No WAL is kept but by slots.
my $cluster = ElectorCluster->new(nodes => 2, ttl => '4s', settings => { wal_keep_size => 0 })->build;

sub insert
{
	my ($first, $count) = @_;
	return $cluster->psql($cluster->wait_for_leader,
		"INSERT INTO rows (n) SELECT g FROM generate_series($first, $first + $count - 1) g", timeout => 30);
}

sub has
{
	my ($node, $n) = @_;
	my $result = $cluster->try_psql($node, "SELECT count(*) FROM rows WHERE n = $n", timeout => 3);
	return $result->{ok} && $result->{out} eq '1';
}

# More WAL than is kept without a slot, with checkpoints behind it.
sub move_on
{
	my ($leader) = @_;
	foreach (1 .. 3)
	{
		$cluster->psql($leader, 'INSERT INTO rows (n) SELECT -1 FROM generate_series(1, 1000)');
		$cluster->psql($leader, 'SELECT pg_switch_wal()');
		$cluster->psql($leader, 'CHECKPOINT', timeout => 60);
	}
	return;
}

#
# A plain standby of a follower, with a slot of its own there.
#
sub make_plain
{
	my ($node, $upstream) = @_;
	my $data = $cluster->data($node);

	$cluster->_declare_node($node);
	$cluster->psql($upstream, "SELECT pg_create_physical_replication_slot('of_$node', true)");
	$cluster->_must_run_on($node, { timeout => 120 }, 'pg_basebackup', '-D', $data,
		'-h', $cluster->address($upstream), '-U', 'postgres', '-c', 'fast', '-R', '-S', "of_$node");
	$cluster->set_line($node, unix_socket_directories => "$cluster->{sockets}/$node");
	$cluster->set_line($node, $_)
	  foreach 'shared_preload_libraries', grep { /^pg_elector\./ }
	  map { (split)[0] // () } split /\n/, read_file("$data/postgresql.conf");
	my @lines = grep { !/^(?:pg_elector\.|primary_conninfo = ''|primary_slot_name = 'pg_elector)/ }
	  split /^/, read_file("$data/postgresql.auto.conf");
	write_file("$data/postgresql.auto.conf", join '', @lines);
	$cluster->start($node);
	return;
}

make_plain('c1', 'n2');
insert(1, 10);
$cluster->poll_until(sub { has('c1', 10) }, 20, 'the plain standby to have the rows');
is($cluster->psql('c1', 'SHOW shared_preload_libraries'), '', 'plain: without pg_elector');
is($cluster->psql('n2', q{SELECT active FROM pg_replication_slots WHERE slot_name = 'of_c1'}), 't',
	'plain: streams from a follower by a slot of its own');

# Its upstream becomes the leader.
my $offset = $cluster->log_offset('c1');
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'failover: its upstream leads');
insert(11, 10);
$cluster->poll_until(sub { has('c1', 20) }, 20, 'the plain standby to go on');
pass('failover: the plain standby goes on');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->remember;

# And then a follower again.
$cluster->psql('n2', q{SELECT elector_switchover('n1')}, timeout => 30);
is($cluster->wait_for_leader(exclude => 'n2'), 'n1', 'switchover: its upstream follows');
insert(21, 10);
$cluster->poll_until(sub { has('c1', 30) }, 30, 'the plain standby to go on');
pass('switchover: the plain standby goes on');
is($cluster->psql('n2', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'of_c1'}), '1',
	'and its slot is still there');
$cluster->stop('c1');
$cluster->psql('n2', q{SELECT pg_drop_replication_slot('of_c1')});

#
# A follower that replays an hour late.
#
sub history { my @history = $cluster->query_history($_[0]); return $history[-1] }

# Kill the leader; return the milliseconds of the change.
sub fail_over
{
	my ($old, $new) = @_;
	$cluster->kill_postmaster($old);
	is($cluster->wait_for_leader(exclude => $old), $new, "$new leads after $old");
	my $history = history($new);
	note join ' ', map { $_ . '=' . ($history->{$_} // '') } sort keys %$history;
	$cluster->wait_for_no_process($old);
	my $sum = 0;
	$sum += $history->{$_} foreach qw(lock_ms revoke_ms choose_ms establish_ms promote_ms open_ms);
	return $sum;
}

my $without = fail_over('n1', 'n2');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->add_node('n3', from => 'n2',
	settings => { 'pg_elector.candidate' => 'off', recovery_min_apply_delay => '1h' });
$cluster->start('n3');
$cluster->poll_until(
	sub { $cluster->psql('n2', q{SELECT count(*) FROM pg_stat_replication WHERE application_name = 'n3' AND state = 'streaming'}) == 1 },
	20, 'the late follower to stream');
$cluster->remember('n3');
insert(31, 10);
my $lsn = $cluster->psql('n2', 'SELECT pg_current_wal_flush_lsn()');
$cluster->poll_until(
	sub { $cluster->psql('n3', q{SELECT flushed_lsn FROM pg_stat_wal_receiver}) eq $lsn },
	20, 'the late follower to receive the rows');
ok(!has('n3', 40), 'late: has not replayed them');

my $with = fail_over('n2', 'n1');
cmp_ok($with, '<', $without + 400, "late: an election takes $with ms with it, and $without ms without");
my $row = $cluster->wait_for_status('n1', 'n3', { state => 'connecting' });
like($row->{detail}, qr/recovery_min_apply_delay/, 'late: elector_status tells why it does not stream');
ok($cluster->try_psql('n3', 'SELECT max(n) FROM rows', timeout => 3)->{ok}, 'late: answers reads');
ok(!has('n3', 40), 'late: of what it has replayed');

# It is behind for as long as it shall be, and then finds the leader's WAL.
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->remember('n2');
move_on('n1');
insert(41, 10);
my $before = $cluster->log_offset('n3');
$cluster->reload_line('n3', recovery_min_apply_delay => 0);
$cluster->wait_for_follower('n3');
ok(has('n3', 50), 'late: follows the new leader in the end');
unlike($cluster->log_since('n3', $before), qr/rewind|clon/, 'late: without being rewound');

# From now on, commits are replayed an hour late.
sub delay
{
	$cluster->reload_line('n3', recovery_min_apply_delay => '1h');
	$cluster->poll_until(
		sub {
			insert(-1, 1);
			$cluster->psql('n3', q{SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'}) eq 'RecoveryApplyDelay';
		},
		20, 'the late follower to replay late');
	return;
}

# Started again it knows where it is without replaying all of it.
delay();
insert(51, 10);
sub receive_all
{
	my ($from) = @_;
	my $lsn = $cluster->psql($from, 'SELECT pg_current_wal_flush_lsn()');
	$cluster->poll_until(
		sub { $cluster->psql('n3', "SELECT flushed_lsn >= '$lsn' FROM pg_stat_wal_receiver") eq 't' },
		20, 'the late follower to receive all');
	return;
}
receive_all('n1');
$cluster->restart('n3');
$cluster->remember('n3');
$cluster->wait_for_status('n1', 'n3', { state => 'connecting' });
ok(!has('n3', 60), 'late: started again, still late');
ok(has('n3', 50), 'late: and answers reads');
$cluster->reload_line('n3', recovery_min_apply_delay => 0);
$cluster->wait_for_follower('n3');
delay();

#
# It has received what the next leader has not: that is discarded, and nothing is
# rewound.
#
$cluster->cut('n2', from => ['n1']);
insert(61, 10);
receive_all('n1');
$before = $cluster->log_offset('n3');
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'parted: one that has less leads');
$cluster->heal('n2');
insert(71, 10);
$cluster->wait_log('n3', qr/discarding WAL that was not replayed/, $before);
$cluster->wait_for_status('n2', 'n3', { state => 'connecting' });
is($cluster->psql('n3', 'SELECT max(n) FROM rows'), 60, 'parted: it is as late as before');
is($cluster->postmaster_pid('n3'), $cluster->{before}{n3}{pid}, 'parted: the same process id');
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->remember('n1');
move_on('n2');
$cluster->reload_line('n3', recovery_min_apply_delay => 0);
$cluster->wait_for_follower('n3');
ok(has('n3', 80), 'parted: it follows the leader');
ok(!has('n3', 61), 'parted: the other rows never appear');
unlike($cluster->log_since('n3', $before), qr/pg_rewind|pg_basebackup/, 'parted: nothing was rewound or cloned');
$cluster->remember('n3');
$cluster->check_whole('parted');

#
# Alone it is not elected.
#
$cluster->stop('n1');
$cluster->kill_postmaster('n2');
$cluster->wait_for_status('n3', 'n3', { state => 'no candidate' }, 30);
ok(!$cluster->is_leader('n3'), 'alone: not elected');
$cluster->wait_for_no_process('n2');
$cluster->start($_) foreach qw(n1 n2);
$cluster->remember;
$cluster->check_whole('in the end');
$cluster->check_history('in the end');

done_testing();
