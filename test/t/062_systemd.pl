# contrib/systemd with systemd itself: as process 1 of a process namespace, in a control
# group of its own, with no units but these.  Skipped where that cannot be made.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(run_command must_run spawn process_alive kill_and_wait);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use Test::More;

my $contrib = abs_path(dirname(abs_path(__FILE__)) . '/../../contrib');
my $systemd = '/lib/systemd/systemd';
plan skip_all => 'there is no systemd' unless -x $systemd;

# The hierarchy that systemd keeps its groups in: that of version 2, or its own of version 1.
my ($root, $type, $place) =
    -e '/sys/fs/cgroup/cgroup.controllers'  ? ('/sys/fs/cgroup', 'mount -t cgroup2 cgroup', '/sys/fs/cgroup')
  : -e '/sys/fs/cgroup/systemd/cgroup.procs' ? ('/sys/fs/cgroup/systemd', 'mount -t cgroup -o none,name=systemd cgroup', '/sys/fs/cgroup/systemd')
  :                                            ();
plan skip_all => 'there are no control groups for systemd' unless defined $root;
my $group = "$root/elector-test-$$";
plan skip_all => "could not create control group $group: $!" unless mkdir $group;

# The processes of a group end with its process 1, and are gone a moment later.
my %machine;

sub remove_groups
{
	my ($directory) = @_;
	foreach my $inner (grep { -d } glob("$directory/*")) { remove_groups($inner) }
	return rmdir $directory;
}

END
{
	local $?;
	if (defined $group && -d $group)
	{
		kill_and_wait('KILL', grep { defined } values %machine);
		eval { poll_until(sub { remove_groups($group) }, 10, 'the control group to be empty') };
	}
}

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $base    = $cluster->base;
my $unit    = 'pg_elector.service';
my $writer  = $cluster->start_writer;

#
# The unit as it is in contrib, with this test's paths and settings; what it lies on is
# reduced to what it needs.
#
make_path("$base/units/forking.service.d");
my $text = read_file("$contrib/systemd/pg_elector.service");
my $options = '-c pg_elector.failover_cooldown=0s -c work_mem=5MB';
$text =~ s{^ExecStart=\S+/postgres -D \S+$}{'ExecStart=' . $cluster->bindir . '/postgres -D ' . $cluster->data('n2') . " $options"}me or die;
$text =~ s/^User=.*/User=$cluster->{user}/m;
$text =~ s/^\[Unit\]$/[Unit]\nDefaultDependencies=no/m;
write_file("$base/units/$unit", $text =~ s/^\[Service\]$/"[Service]\nStandardOutput=append:" . $cluster->log('n2') . "\nStandardError=inherit"/mer);

# As Debian's, whose pg_ctlcluster calls pg_ctl; with the drop-in.
write_file("$base/units/forking.service", "[Unit]\nDefaultDependencies=no\n[Service]\nType=forking\nUser=$cluster->{user}\n"
	  . 'ExecStart=-' . $cluster->bindir . '/pg_ctl -D ' . $cluster->data('n3') . ' -l ' . $cluster->log('n3') . " -o \"$options\" start\n"
	  . 'ExecStop=' . $cluster->bindir . '/pg_ctl -D ' . $cluster->data('n3') . " -m fast stop\nTimeoutSec=0\n"
	  . 'PIDFile=' . $cluster->data('n3') . "/postmaster.pid\n");
write_file("$base/units/forking.service.d/pg_elector.conf", read_file("$contrib/systemd/postgresql\@.service.d/pg_elector.conf"));
write_file("$base/units/$_.target", "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n") foreach qw(default basic sysinit shutdown network-online multi-user);

#
# A machine, so to say: the network of a node, and process 1.
#
sub boot
{
	my ($node) = @_;
	$machine{$node} = spawn(
		{ log => "$base/systemd-$node.log" },
		'/bin/sh', '-c', 'mkdir -p "$1" && echo $$ >"$1/cgroup.procs" && shift && exec "$@"', 'sh', "$group/$node",
		$cluster->network->on($node), 'unshare', '--cgroup', '--pid', '--fork', '--kill-child', '--mount', '--mount-proc', '--ipc', '--uts',
		'/bin/sh', '-c', "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/lock && "
		  . "umount -R /sys/fs/cgroup; mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir -p $place; $type $place && "
		  . "exec env -i PATH=/usr/bin:/bin LC_ALL=C container=docker SYSTEMD_UNIT_PATH=$base/units $systemd --system --unit=default.target --log-target=console --show-status=false");
	return;
}

sub process_1
{
	my ($node) = @_;
	foreach my $pid ($cluster->pids($node))
	{
		my $status = eval { read_file("/proc/$pid/status") } // next;
		return $pid if $status =~ /^NSpid:\s+\d+\s+1$/m && $status =~ /^Name:\s+systemd$/m;
	}
	return undef;
}

sub systemctl
{
	my ($node, @args) = @_;
	my $pid = process_1($node) // return { ok => 0, out => '', err => 'no process 1' };
	return run_command({ timeout => 90, env => { LC_ALL => 'C', SYSTEMD_PAGER => '', DBUS_SESSION_BUS_ADDRESS => undef } },
		'nsenter', "--target=$pid", '--mount', '--pid', 'systemctl', @args);
}

sub property { my ($node, $unit, $name) = @_; return systemctl($node, 'show', '--value', '-p', $name, $unit)->{out} =~ s/\n//r }

boot($_) foreach qw(n2 n3);
my $booted = eval {
	$cluster->poll_until(sub { systemctl('n2', 'is-system-running', '--wait')->{out} =~ /running|degraded/ && process_1('n3') }, 15, 'systemd to be up');
	1;
};
if (!$booted)
{
	diag(read_file("$base/systemd-n2.log"));
	kill_and_wait('KILL', grep { defined } values %machine);
	pass('skipped: systemd does not run here');
	done_testing();
	exit 0;
}
pass('systemd is process 1');

#
# Type=notify: demotions end the process, with the status that has systemd start it again.
#
$cluster->stop('n2');
my $started = systemctl('n2', 'start', $unit);
ok($started->{ok}, 'notify: started, and said to be ready') or diag($started->{err} . read_file("$base/systemd-n2.log"));
$cluster->{node}{n2}{state} = 'running';
$cluster->wait_for_follower('n2', 60);
is(property('n2', $unit, 'ActiveState'), 'active', 'notify: active');
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'notify: it leads');
$cluster->wait_for_follower('n1', 60);
is(property('n2', $unit, 'NRestarts'), 0, 'notify: and was not restarted for that');
$cluster->psql('n2', q{SELECT elector_switchover('n1')});
is($cluster->wait_for_leader(exclude => 'n2', timeout => 30), 'n1', 'notify: demoted');
$cluster->wait_for_follower('n2', 60);
is(property('n2', $unit, 'NRestarts'), 1, 'notify: systemd has started it again, once');

# Promoted by hand: stopped, rewound before it is ready, started.
$cluster->try_psql('n2', 'SELECT pg_promote(false)');
$cluster->poll_until(sub { property('n2', $unit, 'NRestarts') == 3 }, 60, 'systemd to start it again');
$cluster->wait_for_follower('n2', 60);
pass('notify: promoted by hand it is rewound, and follows');

# The postmaster of the leader is killed.
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'notify: it leads again');
$cluster->wait_for_follower('n1', 60);
my $inside = property('n2', $unit, 'MainPID');
my ($postmaster) = grep { (eval { read_file("/proc/$_/status") } // '') =~ /^NSpid:\s+\d+\s+$inside$/m } $cluster->pids('n2');
kill 'KILL', $postmaster;
my $leader = $cluster->wait_for_leader(exclude => 'n2', timeout => 30);
my @history = $cluster->query_history($leader);
is($history[-1]{revoked}, 'released', "notify: killed, its elector still gives leadership up, and $leader leads");
$cluster->wait_for_follower('n2', 60);
is(property('n2', $unit, 'ActiveState'), 'active', 'notify: and systemd has started it again');

# A stop hands over, and stays one.
$cluster->psql($leader, q{SELECT elector_switchover('n2')});
is($cluster->wait_for_leader(exclude => $leader, timeout => 30), 'n2', 'notify: it leads once more');
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne 'n2' } $cluster->nodes;
ok(systemctl('n2', 'stop', $unit)->{ok}, 'notify: systemctl stop');
$cluster->{node}{n2}{state} = 'stopped';
$leader = $cluster->wait_for_leader(exclude => 'n2', timeout => 30);
@history = $cluster->query_history($leader);
is($history[-1]{revoked}, 'handed over', 'notify: which hands over');
is(property('n2', $unit, 'ActiveState'), 'inactive', 'notify: and is the end of it');
ok(systemctl('n2', 'start', $unit)->{ok}, 'notify: and started');
$cluster->{node}{n2}{state} = 'running';
$cluster->wait_for_follower('n2', 60);

#
# Type=forking: demotions happen in the same process.
#
if ($leader eq 'n3')
{
	$cluster->psql('n1', q{SELECT elector_switchover('n1')});
	$leader = $cluster->wait_for_leader(exclude => 'n3', timeout => 30);
	$cluster->wait_for_follower('n3', 60);
}
$cluster->stop('n3');
$started = systemctl('n3', 'start', 'forking.service');
ok($started->{ok}, 'forking: started') or diag($started->{err} . read_file("$base/systemd-n3.log"));
$cluster->{node}{n3}{state} = 'running';
$cluster->wait_for_follower('n3', 60);
my $main = property('n3', 'forking.service', 'MainPID');
cmp_ok($main, '>', 1, 'forking: systemd knows the postmaster');
$cluster->psql($leader, q{SELECT elector_switchover('n3')});
is($cluster->wait_for_leader(exclude => $leader, timeout => 30), 'n3', 'forking: it leads');
$cluster->wait_for_follower($leader, 60);
$cluster->psql('n3', "SELECT elector_switchover('$leader')");
is($cluster->wait_for_leader(exclude => 'n3', timeout => 30), $leader, 'forking: demoted');
$cluster->wait_for_follower('n3', 60);
is(property('n3', 'forking.service', 'MainPID'), $main, 'forking: it is the same process');
is(property('n3', 'forking.service', 'NRestarts'), 0, 'forking: that systemd did not start again');
($postmaster) = grep { (eval { read_file("/proc/$_/status") } // '') =~ /^NSpid:\s+\d+\s+$main$/m } $cluster->pids('n3');
kill 'KILL', $postmaster;
$cluster->poll_until(sub { property('n3', 'forking.service', 'NRestarts') >= 1 }, 30, 'systemd to start it again');
$cluster->wait_for_follower('n3', 60);
pass('forking: killed, it is started again, by the drop-in');
ok(systemctl('n3', 'stop', 'forking.service')->{ok}, 'forking: systemctl stop');
isnt(property('n3', 'forking.service', 'ActiveState'), 'active', 'forking: is the end of it');
ok(systemctl('n3', 'start', 'forking.service')->{ok}, 'forking: and started');
$cluster->wait_for_follower('n3', 60);

$writer->wait_for_acks(10);
$writer->stop;
$writer->check_rows($leader, name => 'systemd', losses => 1);
systemctl('n2', 'stop', $unit);
systemctl('n3', 'stop', 'forking.service');
kill_and_wait('KILL', map { process_1($_) // () } qw(n2 n3));

done_testing();
