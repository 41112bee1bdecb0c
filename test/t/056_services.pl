# contrib/container/entry as process 1 of a process namespace, and contrib/systemd by
# systemd-analyze and an emulation of what systemd does for Type=notify.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(run_command must_run spawn process_alive kill_and_wait);
use File::Basename qw(dirname);
use IO::Select;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Socket qw(SOCK_DGRAM);
use Test::More;

my $contrib = abs_path(dirname(abs_path(__FILE__)) . '/../../contrib');
my $cluster = ElectorCluster->new(nodes => 3, peer => 'elector');
my $base    = $cluster->base;
my %container;

$cluster->start_etcd;
write_file("$base/secret", q{it's a \ secret:} . "\n");
chown $cluster->{uid}, $cluster->{gid}, "$base/secret";

#
# Containers: a process namespace and a /proc of its own, the volume being the data
# directory's place.
#
sub run_container
{
	my ($node, %env) = @_;
	$container{$node} = spawn(
		{ log => $cluster->log($node), env => {
				LC_ALL => 'C', LANG => undef, HOME => '/nonexistent', TMPDIR => "$cluster->{sockets}/$node",
				PATH => $cluster->bindir . ':/usr/bin:/bin',
				PGDATA => $cluster->data($node), PG_ELECTOR_BINDIR => $cluster->bindir,
				PG_ELECTOR_CLUSTER => 'orders', PG_ELECTOR_ETCD => $cluster->endpoints, PG_ELECTOR_NODE => $node,
				PG_ELECTOR_CONNINFO => $cluster->node_conninfo($node), PG_ELECTOR_NETWORK => '10.99.0.0/16',
				PG_ELECTOR_PASSWORD_FILE => "$base/secret", PG_ELECTOR_FIRST => undef, NOTIFY_SOCKET => undef, %env } },
		$cluster->network->on($node), 'unshare', '--pid', '--fork', '--kill-child', '--mount-proc',
		'setpriv', "--reuid=$cluster->{uid}", "--regid=$cluster->{gid}", '--init-groups',
		"$contrib/container/entry", '-c', "unix_socket_directories=$cluster->{sockets}/$node", '-c', 'pg_elector.lease_ttl=2s',
		'-c', 'pg_elector.failover_cooldown=0s');
	$cluster->{node}{$node}{state} = 'running';
	push @{ $cluster->{node_list} }, $node unless grep { $_ eq $node } @{ $cluster->{node_list} };
	return;
}

# The process as the host sees it: the shell that is process 1 in there, and the postmaster.
sub inside
{
	my ($node, $pid) = @_;
	foreach my $outside ($cluster->pids($node))
	{
		my $status = eval { read_file("/proc/$outside/status") } // next;
		return $outside if $status =~ /^NSpid:\s+\d+\s+$pid$/m;
	}
	return undef;
}

sub wait_ended
{
	my ($node) = @_;
	my $pid = $container{$node};
	my $status;
	$cluster->poll_until(sub { waitpid($pid, WNOHANG) == $pid && defined($status = $?) }, 30, "the container of $node to end");
	$cluster->{node}{$node}{state} = 'stopped';
	return $status >> 8;
}

run_container('n1', PG_ELECTOR_FIRST => 'yes');
$cluster->poll_until(sub { $cluster->is_leader('n1') }, 60, 'the first container to lead');
pass('the first node is made, and leads');
like(read_file('/proc/' . inside('n1', 1) . '/cmdline'), qr/entry/, 'the entry script is process 1');

# Clients; the nodes' own line comes before, so that they need their password.
$cluster->append('n1', 'pg_hba.conf', "host all app,postgres 10.99.0.0/16 trust\n");
$cluster->psql('n1', 'SELECT pg_reload_conf()');
run_container($_) foreach qw(n2 n3);
foreach my $node (qw(n2 n3))
{
	$cluster->poll_until(sub { -e $cluster->data($node) . '/postmaster.pid' }, 60, "$node to have joined");
	is($cluster->wait_for_follower($node, 60), 'n1', "$node joins by itself, and follows");
}
is($cluster->psql('n1', q{SELECT count(*) FROM pg_stat_replication WHERE usename = 'elector'}), 2, 'by the password');
$cluster->create_tables('n1');
my $writer = $cluster->start_writer;

# A postmaster's process id, in its own namespace, and the container's.
sub identity { my ($node) = @_; return $cluster->postmaster_pid($node) . ' ' . $container{$node} }
my %before = map { $_ => identity($_) } qw(n1 n2 n3);

# A demotion.
$cluster->psql('n3', q{SELECT elector_switchover('n2')}, timeout => 60);
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'switchover: n2 leads');
$cluster->wait_for_follower($_, 60) foreach qw(n1 n3);
is(identity($_), $before{$_}, "switchover: same process, same container: $_") foreach qw(n1 n2 n3);
like($cluster->log_since('n1', 0), qr/received fast shutdown request.*starting PostgreSQL/s, 'switchover: n1 went through a restart');

# A promotion by hand, and the rewind after it.
my $offset = $cluster->log_offset('n3');
$cluster->try_psql('n3', 'SELECT pg_promote(false)');
$cluster->wait_log('n3', qr/pg_elector: data directory is ready to follow/, $offset, 60);
$cluster->wait_for_follower('n3', 60);
is(identity('n3'), $before{n3}, 'promoted by hand: rewound in the same process');

# The postmaster is killed: its elector gives leadership up, the container ends, and is
# started again.
$offset = $cluster->log_offset('n2');
kill 'KILL', inside('n2', $cluster->postmaster_pid('n2'));
my $leader = $cluster->wait_for_leader(exclude => 'n2', timeout => 30);
my @history = $cluster->query_history($leader);
is($history[-1]{revoked}, 'released', "postmaster killed: it was given up, and $leader leads");
is(wait_ended('n2'), 137, 'postmaster killed: the container ends with its status');
run_container('n2');
is($cluster->wait_for_follower('n2', 60), $leader, 'started again: it follows');

# SIGTERM hands over.
my $term = $cluster->term($leader);
kill 'TERM', inside($leader, 1);
my $next = $cluster->wait_for_leader(exclude => $leader, timeout => 30);
is(wait_ended($leader), 0, 'SIGTERM: the container ends well');
@history = $cluster->query_history($next);
is($history[-1]{revoked}, 'handed over', "SIGTERM: it has handed over, and $next leads");
run_container($leader);
is($cluster->wait_for_follower($leader, 60), $next, 'SIGTERM: started again, it follows');

# An orphan that dies of a signal is no crash of the server's.
{
	my $pid  = $cluster->postmaster_pid($next);
	my $shell = inside($next, 1);
	my $started = $cluster->psql($next, 'SELECT pg_postmaster_start_time()');
	must_run({}, 'nsenter', '--pid', '--mount', "--target=$shell", 'setpriv', "--reuid=$cluster->{uid}", "--regid=$cluster->{gid}", '--clear-groups',
		'/bin/sh', '-c', '(/bin/sh -c "sleep 0.3; kill -9 \$\$" >/dev/null 2>&1 &)');
	my $writes = $writer->wait_for_acks(50);
	sleep 1;
	is($cluster->psql($next, 'SELECT pg_postmaster_start_time()'), $started, 'an orphan that dies of a signal is adopted by process 1');
	is($cluster->leader, $next, 'and nobody else leads');
}
$writer->wait_for_acks(10);
$writer->stop;
$writer->check_rows($next, name => 'containers', losses => 1);

#
# The unit, as systemd reads it, and as it says that a server is run.
#
foreach my $unit ('pg_elector.service', 'postgresql@.service.d/pg_elector.conf')
{
	my $directory = "$base/units-" . ($unit =~ tr/\/@//dr);
	my $name = 'pg_elector.service';
	mkdir $directory;
	if ($unit =~ /\.conf$/)
	{
		$name = 'postgresql@15-main.service';
		mkdir "$directory/$name.d";
		write_file("$directory/$name.d/pg_elector.conf", read_file("$contrib/systemd/$unit"));
		write_file("$directory/$name", "[Service]\nType=forking\nExecStart=-/bin/true\nPIDFile=/run/elector-test.pid\n");
	}
	else
	{
		write_file("$directory/$name", read_file("$contrib/systemd/$unit") =~ s{^ExecStart=\S+}{"ExecStart=" . $cluster->bindir . '/postgres'}mer);
	}
	next unless -x '/usr/bin/systemd-analyze';
	my $result = run_command({ env => { SYSTEMD_UNIT_PATH => "$directory:" } }, 'systemd-analyze', 'verify', "$directory/$name");
	my @own = grep { /pg_elector|15-main/ } split /\n/, $result->{err};
	is(join("\n", @own), '', "systemd-analyze verify has nothing to say of $unit");
}

my %unit;
push @{ $unit{$1} }, $2 while read_file("$contrib/systemd/pg_elector.service") =~ /^(\w+)=(.*)$/mg;
is($unit{Type}[0], 'notify', 'the unit is of type notify');

# What systemd does: start the command with a socket; wait for READY=1; at its end start it
# again if the status is one of those, or Restart= says so.
my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$cluster->{sockets}/notify") or die "no socket: $!\n";
chmod 0777, "$cluster->{sockets}/notify";
my %service = (starts => 0, ends => []);

sub start_service
{
	my ($node) = @_;
	my $command = $unit{ExecStart}[0] =~ s{^\S+/postgres}{$cluster->bindir . '/postgres'}er =~ s{-D \S+}{'-D ' . $cluster->data($node)}er;
	$service{pid} = spawn(
		{ log => $cluster->log($node), env => { NOTIFY_SOCKET => "$cluster->{sockets}/notify", LC_ALL => 'C', HOME => $base, PGPASSFILE => "$base/pgpass" } },
		$cluster->as_user($node), split(/ /, $command), '-c', "unix_socket_directories=$cluster->{sockets}/$node",
		'-c', 'pg_elector.lease_ttl=2s', '-c', 'pg_elector.failover_cooldown=0s');
	$service{starts}++;
	$service{ready} = 0;
	return;
}

sub supervise
{
	my ($node) = @_;
	while (IO::Select->new($socket)->can_read(0))
	{
		$socket->recv(my $said, 4096);
		$service{ready} = 1 if $said =~ /^READY=1/m;
	}
	return if !$service{pid} || waitpid($service{pid}, WNOHANG) != $service{pid};
	my $status = $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
	push @{ $service{ends} }, $status;
	my %forced = map { $_ => 1 } split ' ', $unit{RestartForceExitStatus}[0];
	$service{pid} = undef;
	start_service($node) if $forced{$status} || ($unit{Restart}[0] eq 'on-failure' && $status ne '0' && !$service{stopping});
	return;
}

sub supervised
{
	my ($node, $sub, $timeout, $what) = @_;
	return $cluster->poll_until(sub { supervise($node); $sub->() }, $timeout, $what);
}

write_file("$base/pgpass", q{*:*:*:elector:it's a \\\\ secret\\:} . "\n");
chown $cluster->{uid}, $cluster->{gid}, "$base/pgpass";
chmod 0600, "$base/pgpass";
my ($node) = grep { $_ ne $next } qw(n2 n3);
kill 'TERM', inside($node, 1);
wait_ended($node);
$cluster->{node}{$node}{state} = 'running';
start_service($node);
supervised($node, sub { $service{ready} }, 60, 'READY=1');
pass('the unit: the server says that it is ready');
$cluster->wait_for_follower($node, 60);

$cluster->psql($next, "SELECT elector_switchover('$node')");
supervised($node, sub { $cluster->is_leader($node) }, 60, 'the service to lead');
$cluster->wait_for_follower($next, 60);
is($service{starts}, 1, 'the unit: it leads, and was not restarted for that');
$cluster->psql($node, "SELECT elector_switchover('$next')");
supervised($node, sub { $service{starts} == 2 && $service{ready} }, 60, 'the service to come back');
is($service{ends}[0], 75, 'the unit: demoted, it ended with the status that has it started again');
supervised($node, sub { my $row = $cluster->status_of($next, $node); $row && $row->{state} eq 'streaming' }, 60, 'it to follow');
pass('the unit: and follows');
kill 'KILL', $service{pid};
supervised($node, sub { $service{starts} == 3 && $service{ready} }, 60, 'the service to be restarted');
is($service{ends}[1], 'signal 9', 'the unit: killed, it is started again');
supervised($node, sub { my $row = $cluster->status_of($next, $node); $row && $row->{state} eq 'streaming' }, 60, 'it to follow');
$service{stopping} = 1;
kill $unit{KillSignal}[0] =~ s/^SIG//r, $service{pid};
supervised($node, sub { !$service{pid} }, 60, 'the service to stop');
is($service{ends}[2], 0, 'the unit: its KillSignal is a stop');

done_testing();
