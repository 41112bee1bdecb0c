# ElectorNetwork.pm
#
# A network of hosts for one test: a bridge in a network namespace of its own,
# and for each host another namespace with one interface (eth0) on that bridge.
# Nothing touches the addresses, routes or rules of the machine itself, so any
# number of tests run side by side with the same addresses.
#
# Cuts are nftables rules inside the host's namespace, on eth0 only: the host
# still reaches itself, and what runs beside it over a Unix socket reaches it
# too.  Dropped packets are silence; refused ones are answered with a TCP reset,
# in sessions that are open as well.
#
# The trap: namespaces outlive the test that made them.  Names contain its
# process id, teardown() is called from ElectorCluster's END block, and new()
# sweeps those whose test is gone.

package ElectorNetwork;

use strict;
use warnings;

use ElectorProcess qw(now run_command must_run wait_gone);
use Time::HiRes qw(sleep);

my $counter = 0;

sub new
{
	my ($class) = @_;
	my $self = bless {
		prefix => sprintf('el%d-%d-', $$, $counter++),
		hosts  => {},
		cuts   => {},
	}, $class;

	_sweep();
	$self->_ip('netns', 'add', $self->_bridge);
	$self->_ip('-n', $self->_bridge, 'link', 'add', 'br0', 'type', 'bridge');
	$self->_ip('-n', $self->_bridge, 'link', 'set', 'br0', 'up');
	return $self;
}

sub _ip { my ($self, @args) = @_; return must_run({}, 'ip', @args) }
sub _bridge { return $_[0]{prefix} . 'bridge' }

sub namespace
{
	my ($self, $host) = @_;
	die "there is no host $host\n" unless $self->{hosts}{$host};
	return $self->{prefix} . $host;
}

sub hosts { return keys %{ $_[0]{hosts} } }

sub address
{
	my ($self, $host) = @_;
	return $self->{hosts}{$host} // die "there is no host $host\n";
}

sub add_host
{
	my ($self, $host, $address) = @_;
	my $bridge = $self->_bridge;

	$self->{hosts}{$host} = $address;
	my $ns = $self->namespace($host);
	$self->_ip('netns', 'add', $ns);
	$self->_ip('-n', $bridge, 'link', 'add', "to-$host", 'type', 'veth',
		'peer', 'name', 'eth0', 'netns', $ns);
	$self->_ip('-n', $bridge, 'link', 'set', "to-$host", 'master', 'br0', 'up');
	$self->_ip('-n', $ns, 'addr', 'add', "$address/16", 'dev', 'eth0');
	$self->_ip('-n', $ns, 'link', 'set', 'lo',   'up');
	$self->_ip('-n', $ns, 'link', 'set', 'eth0', 'up');
	return;
}

# The words that run a command on a host.
sub on
{
	my ($self, $host) = @_;
	return ('ip', 'netns', 'exec', $self->namespace($host));
}

sub pids
{
	my ($self, $host) = @_;
	return split ' ', run_command({}, 'ip', 'netns', 'pids', $self->namespace($host))->{out};
}

sub set_link
{
	my ($self, $host, $state) = @_;
	$self->_ip('-n', $self->namespace($host), 'link', 'set', 'eth0', $state);
	return;
}

# Cut a host off.  Options:
#   from       a list of host names; without it, everything
#   direction  'in' (packets to the host are lost), 'out' (packets from it), 'both'
#   refuse     answer with a TCP reset instead of losing the packet
# Cuts add up until heal().
sub cut
{
	my ($self, $host, %opts) = @_;
	push @{ $self->{cuts}{$host} }, {%opts};
	$self->_load_rules($host);
	return;
}

sub heal
{
	my ($self, $host) = @_;
	$self->{cuts}{$host} = [];
	$self->_load_rules($host);
	return;
}

sub _load_rules
{
	my ($self, $host) = @_;
	my %rules = (in => '', out => '');

	foreach my $cut (@{ $self->{cuts}{$host} })
	{
		my $direction = $cut->{direction} // 'both';
		die "unknown direction $direction\n" unless $direction =~ /^(in|out|both)$/;
		my @verdicts = $cut->{refuse} ? ('ip protocol tcp reject with tcp reset', 'drop') : ('drop');
		foreach my $way (qw(in out))
		{
			next unless $direction eq $way || $direction eq 'both';
			my $match = ($way eq 'in' ? 'iifname' : 'oifname') . ' "eth0"';
			$match .= sprintf(' ip %s { %s }',
				$way eq 'in' ? 'saddr' : 'daddr',
				join(', ', map { $self->address($_) } @{ $cut->{from} }))
			  if $cut->{from};
			# The reset that refuses an incoming packet has to get out.
			$rules{$way} .= "    $match tcp flags & rst == rst accept;\n"
			  if $cut->{refuse} && $way eq 'out';
			$rules{$way} .= "    $match $_;\n" foreach @verdicts;
		}
	}

	# One transaction: the old rules hold until the new ones do.
	must_run(
		{ stdin => <<"END" }, $self->on($host), 'nft', '-f', '-');
table inet cut
delete table inet cut
table inet cut {
  chain incoming {
    type filter hook input priority 0; policy accept;
$rules{in}  }
  chain outgoing {
    type filter hook output priority 0; policy accept;
$rules{out}  }
}
END
	return;
}

sub _destroy
{
	my (@namespaces) = @_;
	my $deadline = now() + 15;

	foreach my $ns (@namespaces)
	{
		while (my @pids = split ' ', run_command({}, 'ip', 'netns', 'pids', $ns)->{out})
		{
			kill 'KILL', @pids;
			wait_gone(1, @pids);
			last if now() > $deadline;
		}
		run_command({}, 'ip', 'netns', 'del', $ns);
	}
	return;
}

sub teardown
{
	my ($self) = @_;
	my @namespaces = map { $self->namespace($_) } $self->hosts;
	$self->{hosts} = {};
	_destroy(@namespaces, $self->_bridge);
	return;
}

# Namespaces of tests that were killed before they could clean up.
sub _sweep
{
	my @left;
	foreach my $line (split /\n/, run_command({}, 'ip', 'netns', 'list')->{out})
	{
		my ($name, $pid) = $line =~ /^(el(\d+)-\d+-\S+)/ or next;
		push @left, $name unless -d "/proc/$pid";
	}
	_destroy(@left) if @left;
	return;
}

1;
