# PatroniCluster.pm
#
# The kit's cluster with Patroni in place of pg_elector: the same hosts, the same
# etcd, the same settings of PostgreSQL, and the same faults, so that both can be
# measured by the same client.  Each node runs Debian's `patroni`, which starts
# the server, clones it where there is none, and brings it back after a fault.
#
#   my $cluster = PatroniCluster->new(nodes => 3)->build;
#   $cluster->switchover('n1');
#
# What Patroni waits for is as short as it may be.  The least values are those that
# its documentation gives and that it enforces since 3.2; loop_wait and twice
# retry_timeout must not exceed ttl.  primary_start_timeout 0: where the server has
# died, another node shall lead, rather than that it is started again.
#
# The trap: Patroni takes a zombie for a server that is still stopping, and waits
# for ever.  Each node therefore has an init of its own, which reaps what Patroni
# leaves behind at once, as a machine's does.  teardown() finds all of them by
# their network namespace.

package PatroniCluster;

use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command process_alive spawn write_file);
use File::Basename qw(dirname);
use JSON::PP;

our @ISA = qw(ElectorCluster);

my $kit_directory = dirname($INC{'ElectorProcess.pm'});

# ElectorProcess makes whoever loads it the parent of orphans.
my $init = <<'END';
my $patroni = fork() // die "could not fork: $!\n";
exec { $ARGV[0] } @ARGV if $patroni == 0;
while ((my $pid = wait) > 0) { last if $pid == $patroni }
END

# Such as "3.0.2"; undef where Patroni is not installed.
sub version
{
	my $result = run_command({}, 'patroni', '--version');
	return $result->{ok} && $result->{out} =~ /(\d[\d.]*)/ ? $1 : undef;
}

# As the kit's, without what is about pg_elector.  ttl: Patroni's, in seconds (20).
sub new
{
	my ($class, %opts) = @_;
	my $self = $class->SUPER::new(%opts, plain => 1);

	$self->{waits} = {
		ttl => 0 + ($opts{ttl} // 20), loop_wait => 1, retry_timeout => 3, primary_start_timeout => 0 };
	return $self;
}

# The settings above, to be shown.
sub waits
{
	my ($self) = @_;
	return join ', ', map { "$_ $self->{waits}{$_}" } qw(ttl loop_wait retry_timeout primary_start_timeout);
}

# A node is cloned by Patroni, when it is started.
sub add_node
{
	my ($self, $node) = @_;
	$self->_joined($node);
	return;
}

# Start Patroni, and wait until the server that it starts answers.
sub start
{
	my ($self, $node) = @_;
	my $file = $self->data($node) . '.patroni.json';

	# YAML includes JSON.
	write_file($file, JSON::PP->new->pretty->canonical->encode($self->_patroni_configuration($node)));
	my $pid = spawn(
		{
			log => $self->log($node),
			env => {
				HOME => $self->base, LC_ALL => 'C.UTF-8', NOTIFY_SOCKET => undef,
				map { $_ => undef } grep { /^(PATRONI_|PG)/ } keys %ENV
			}
		},
		$self->network->on($node), $^X, "-I$kit_directory", '-MElectorProcess', '-e', $init,
		$self->as_user($node), 'patroni', $file);
	$self->poll_until(
		sub {
			$self->fail("Patroni on $node has ended") unless process_alive($pid);
			$self->try_psql($node, 'SELECT 1', timeout => 3)->{ok};
		},
		60, "Patroni to start $node");
	$self->{node}{$node}{state} = 'running';
	return;
}

sub _patroni_configuration
{
	my ($self, $node) = @_;
	my $address = $self->address($node);
	my ($etcd)  = $self->members;

	return {
		scope     => 'orders',
		name      => $node,
		etcd3     => { host => $self->address($etcd) . ':2379' },
		restapi   => { listen => '0.0.0.0:8008', connect_address => "$address:8008" },
		bootstrap => {
			dcs => { %{ $self->{waits} }, postgresql => { use_pg_rewind => JSON::PP::true } }
		},
		postgresql => {
			listen          => '0.0.0.0:5432',
			connect_address => "$address:5432",
			data_dir        => $self->data($node),
			bin_dir         => $self->bindir,
			pgpass          => $self->data($node) . '.pgpass',
			use_unix_socket => JSON::PP::true,
			authentication  =>
			  { map { $_ => { username => 'postgres' } } qw(superuser replication rewind) },
			parameters => { unix_socket_directories => "$self->{sockets}/$node" },
		},
	};
}

# Ask for a switchover, by the request that `patronictl switchover` sends.
sub switchover
{
	my ($self, $leader) = @_;
	my $url = 'http://' . $self->address($leader) . ':8008/switchover';
	my $result = run_command({ timeout => 60 }, $self->network->on('client'), $^X,
		'-MHTTP::Tiny', '-e', <<'END', $url, encode_json({ leader => $leader }));
my ($url, $content) = @ARGV;
my $r = HTTP::Tiny->new(timeout => 50)->post($url, { content => $content });
print $r->{content};
exit !$r->{success};
END

	$self->fail("Patroni refused to switch over: $result->{out}$result->{err}") unless $result->{ok};
	return;
}

1;
