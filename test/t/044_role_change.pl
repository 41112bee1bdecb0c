# role_change_command: what it is told and when, that nobody waits for it, that it ends;
# and NOTIFY elector on a new leader.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command process_alive);
use Test::More;

# What the command does is in a file, so that it can be changed while servers run.
my $cluster = ElectorCluster->new(nodes => 3, ttl => '4s');
my $base    = $cluster->base;
$cluster->{settings}{'pg_elector.role_change_command'} = "$base/command --interface \"eth 0\"";

sub set_command
{
	my ($text) = @_;
	write_file("$base/command.new", "#!/bin/sh\n$text\n");
	chmod 0755, "$base/command.new";
	rename "$base/command.new", "$base/command" or die "could not rename: $!\n";
	return;
}

# A line for each call: the arguments as they came.
my $note = qq{echo "\$3 \$4 \$5 \$6" >>$base/calls.\$3};
set_command($note);
chmod 0777, $base;

sub calls
{
	my ($node) = @_;
	return -e "$base/calls.$node" ? split /\n/, read_file("$base/calls.$node") : ();
}

sub forget_calls { write_file("$base/calls.$_", '') foreach $cluster->nodes; return }

sub wait_for_call
{
	my ($node, $call, $timeout) = @_;
	$cluster->poll_until(sub { my @calls = calls($node); @calls && $calls[-1] eq $call },
		$timeout // 20, "$node to be told \"$call\"");
	pass("$node is told \"$call\"");
	return;
}

# Processes of commands that hang, on any node.
sub hanging { return grep { -e "/proc/$_" && read_file("/proc/$_/cmdline") =~ /^sleep\0[67]\d\d\0/ } map { $cluster->pids($_) } $cluster->nodes }

$cluster->build;

# At the start, and as leaders come.
wait_for_call('n1', 'n1 leader 1 n1');
my @first = calls('n1');
is($first[0], 'n1 follower 0 ', 'the first thing that is told is that the server is a standby');
is(scalar @first, 2, 'and nothing between that and its leadership');
foreach my $node (qw(n2 n3))
{
	wait_for_call($node, "$node follower 1 n1");
	is(join(', ', grep { !/follower/ } calls($node)), '', "$node is told nothing else");
}

# Arguments and environment; output, and a failure, in the log.
set_command(qq{printf '%s|' "\$#" "\$@" "\$PG_ELECTOR_CLUSTER" "\$PG_ELECTOR_NODE" "\$PG_ELECTOR_ROLE" "\$PG_ELECTOR_TERM" "\$PG_ELECTOR_LEADER"
echo; echo on error >&2; printf 'no line feed'; $note; exit 3});
my %offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
$cluster->psql('n1', q{SELECT elector_switchover('n2')});

# Who comes to the new leader and listens is told.
$cluster->wait_for_writable('n2');
my $heard = $cluster->run_on('n2', { stdin => "LISTEN elector;\nSELECT pg_sleep(4);\n" }, 'psql', '-X', '-d', $cluster->conninfo('n2'));
like($heard->{out}, qr/Asynchronous notification "elector" with payload "\{"leader":"n2","term":2\}" received/,
	'a listener on the new leader is notified');

wait_for_call('n2', 'n2 leader 2 n2');
wait_for_call('n3', 'n3 follower 2 n2');
wait_for_call('n1', 'n1 follower 2 n2');
like(join(', ', calls('n1')), qr/n1 leader 1 n1, n1 none 1 , n1 follower \d \S*/, 'the old leader had been told when it stopped');
unlike(join(', ', calls('n2')), qr/none/, 'the new one was told nothing between follower and leader');
my $log = $cluster->log_since('n2', $offset{n2});
like($log, qr/LOG:  role_change_command: 6\|--interface\|eth 0\|n2\|leader\|2\|n2\|orders\|n2\|leader\|2\|n2\|$/m,
	'arguments and environment');
like($log, qr/LOG:  role_change_command: on error$/m, 'standard error is in the log, too');
like($log, qr/LOG:  role_change_command: no line feed$/m, 'and what has no line feed');
like($log, qr/LOG:  role_change_command: the command failed with exit code 3$/m, 'and how it failed');
like($log, qr/WARNING:  role_change_command failed for role "leader", term 2$/m, 'which is a warning');

# The elector is stopped: its leader's gate closes by the clock, and that is told.
forget_calls();
set_command($note);
$cluster->stop_worker('n2');
wait_for_call('n2', 'n2 none 2 ');
my $leader = $cluster->wait_for_leader(exclude => 'n2');
wait_for_call($leader, "$leader leader 3 $leader");
$cluster->cont_worker('n2');
wait_for_call('n2', "n2 follower 3 $leader");
$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
like(join(', ', calls('n2')), qr/^n2 none 2 , .*n2 follower 3 $leader$/, 'in this order');

# A command that hangs is ended, with all that it has started; nobody waits for it.
my $writer = $cluster->start_writer;
$writer->wait_for_acks(10);
forget_calls();
set_command("$note; sleep 600 & sleep 601");
$cluster->reload_line($_, 'pg_elector.role_change_timeout', '6s') foreach $cluster->nodes;
my ($target) = grep { $_ ne $leader } $cluster->nodes;
$offset{$target} = $cluster->log_offset($target);
my $since = now_us();
my $pause = $cluster->psql($target, "SELECT pause_ms FROM elector_switchover('$target')", timeout => 30);
cmp_ok($pause, '<', 5000, "a switchover does not wait for commands that hang ($pause ms)");
$cluster->wait_log($target, qr/role_change_command: the command is ended: it has run for longer than pg_elector.role_change_timeout \(6000 ms\)/, $offset{$target});
pass('a command that hangs is ended');

# One after the other: what is said at the end, at the start, and of the new leader.
$cluster->poll_until(sub { !hanging() }, 40, 'what commands have started to end');
pass('and so is what it has started');
$writer->wait_for_acks(20);
cmp_ok($writer->longest_gap(since => $since), '<', 6000, 'writes went on meanwhile');
wait_for_call($target, "$target leader 4 $target");
($leader) = $target;
$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
$cluster->poll_until(sub { !hanging() }, 10, 'all commands to end');

# One at a time, and of what happened meanwhile the latest only.
$cluster->reload_line($_, 'pg_elector.role_change_timeout', '20s') foreach $cluster->nodes;
forget_calls();
set_command("echo begin >>$base/order.\$3; sleep 3; echo end >>$base/order.\$3; $note");
my ($watcher, $other) = grep { $_ ne $leader } $cluster->nodes;
my $term = $cluster->term($leader);
foreach my $to ($other, $leader, $other)
{
	$cluster->psql($watcher, "SELECT elector_switchover('$to')", timeout => 30);
	$cluster->wait_for_follower($_) foreach grep { $_ ne $to } $cluster->nodes;
}
$leader = $other;
wait_for_call($watcher, "$watcher follower " . ($term + 3) . " $leader");
is(join(' ', split /\n/, read_file("$base/order.$watcher")) =~ s/begin end ?//gr, '', 'one command at a time');
my @told = calls($watcher);
cmp_ok(scalar @told, '<=', 3, 'what was over before it could be told was not told: ' . join(', ', @told));

# The server stops, at once, and the last word is spoken all the same.
forget_calls();
my $began = now();
$cluster->stop($watcher);
cmp_ok(now() - $began, '<', 2.5, 'a stop does not wait for the command');
$cluster->start($watcher);
$cluster->wait_for_follower($watcher);
wait_for_call($watcher, "$watcher follower " . ($term + 3) . " $leader", 30);
like(join(', ', calls($watcher)), qr/^$watcher none \d+ , $watcher follower/, 'the last word is before the first of the next start');
is(join(' ', split /\n/, read_file("$base/order.$watcher")) =~ s/begin end ?//gr, '', 'one at a time, over a restart');

# A killed postmaster, an immediate stop.
set_command($note);
$cluster->poll_until(sub { (calls($watcher))[-1] =~ /follower/ }, 10, 'commands to end');
forget_calls();
$cluster->kill_postmaster($leader);
wait_for_call($leader, "$leader none " . ($term + 3) . ' ');
my $old = $leader;
$leader = $cluster->wait_for_leader(exclude => $old);
$cluster->wait_for_no_process($old);
$cluster->start($old);
$cluster->wait_for_follower($old);
$cluster->remember($old, $watcher);
wait_for_call($leader, "$leader leader " . ($term + 4) . " $leader");
$cluster->stop($leader, mode => 'immediate');
wait_for_call($leader, "$leader none " . ($term + 4) . ' ');
$cluster->start($leader);
$old = $leader;
$leader = $cluster->wait_for_leader(timeout => 30);
$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
$cluster->remember($old);

# The announcer itself may end: it is back, and says again what is.
my $pid = $cluster->process_pid($leader, 'pg_elector announcer');
forget_calls();
kill 'TERM', $pid;
$cluster->poll_until(sub { my $now = $cluster->process_pid($leader, 'pg_elector announcer'); $now && $now != $pid },
	10, 'another announcer');
wait_for_call($leader, "$leader leader " . $cluster->term($leader) . " $leader");

# A program that is none, and none at all.
$offset{$leader} = $cluster->log_offset($leader);
$cluster->reload_line($leader, 'pg_elector.role_change_command', '/nowhere/command');
$cluster->wait_log($leader, qr{role_change_command: [^\n]*/nowhere/command: not found.*WARNING:  role_change_command failed}s, $offset{$leader});
pass('a command that is not there is a warning');
forget_calls();
$cluster->reload_line($_, 'pg_elector.role_change_command', '') foreach $cluster->nodes;
foreach my $bad ("a\nb", 'x' x 2000)
{
	my $result = $cluster->try_psql($leader, "ALTER SYSTEM SET pg_elector.role_change_command = '$bad'");
	ok(!$result->{ok} && $result->{err} =~ /role_change_command/, 'a command that cannot be is refused');
}


# No room for a worker that notifies: one line, and the node leads.
$cluster->psql($leader, 'CREATE TABLE wide AS SELECT n, repeat(\'x\', 1000) FROM generate_series(1, 700) AS n; ALTER TABLE wide SET (parallel_workers = 8)');
$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
($target) = grep { $_ ne $leader } $cluster->nodes;
my $busy = $cluster->session($target, user => 'postgres');
$busy->query("SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 8");
$busy->send('SELECT count(*) FROM wide WHERE pg_sleep(0.2 * (n >= 0)::int) IS NOT NULL');
my $workers = 'SELECT count(*) FROM pg_stat_activity WHERE backend_type = \'parallel worker\'';
$cluster->poll_until(sub { $cluster->psql($target, $workers) >= 4 }, 20, 'all worker processes to be taken');
$offset{$target} = $cluster->log_offset($target);
$cluster->psql($target, "SELECT elector_switchover('$target')", timeout => 30);
$cluster->wait_log($target, qr/WARNING:  those who LISTEN to "elector" are not notified.*HINT:  Increase max_worker_processes/s, $offset{$target});
is($cluster->leader, $target, 'no room for a worker that notifies: the node leads');
$cluster->psql($target, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%FROM wide%' AND pid <> pg_backend_pid()});
$busy->stop;

$cluster->remember;
$cluster->check_end('role change', $writer, $cluster->start_probers, losses => 1);
is(join(', ', map { calls($_) } $cluster->nodes), '', 'without a command none is run');

done_testing();
