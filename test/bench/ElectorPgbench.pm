# ElectorPgbench.pm
#
# pgbench against one server of a cluster of the kit, what it cost the server, and a
# table of two ways to run the server.
#
# The range of the ratios of single rounds says how much a machine varies by itself:
# where it is wider than the difference, there is nothing to be read from the
# difference.  What varies less is the processor time that the server's backends spent
# on a transaction, which is therefore measured as well.

package ElectorPgbench;

use strict;
use warnings;

use ElectorProcess qw(read_file);
use List::Util qw(max min);

# Clients are four for each processor.  Options: port and data, where the server on the
# node is not the one that the kit knows.
sub new
{
	my ($class, $cluster, $node, %opts) = @_;
	chomp(my $processors = `nproc`);
	return bless {
		cluster => $cluster, node => $node, processors => $processors, clients => 4 * $processors,
		port => $opts{port} // 5432, data => $opts{data} // $cluster->data($node) }, $class;
}

sub clients    { return $_[0]{clients} }
sub processors { return $_[0]{processors} }

sub _pgbench
{
	my ($self, $timeout, @args) = @_;
	my $cluster = $self->{cluster};
	return $cluster->run_on($self->{node}, { timeout => $timeout }, 'pgbench',
		'-h', "$cluster->{sockets}/$self->{node}", '-p', $self->{port}, '-U', 'bench', @args, 'postgres');
}

# As the superuser.
sub psql
{
	my ($self, $sql) = @_;
	my $cluster = $self->{cluster};
	my $result = $cluster->run_on($self->{node}, { timeout => 120 }, 'psql', '-X', '-q', '-A', '-t',
		'-h', "$cluster->{sockets}/$self->{node}", '-p', $self->{port}, '-U', 'postgres', '-c', $sql, 'postgres');
	$cluster->fail("$sql: $result->{err}") unless $result->{ok};
	chomp $result->{out};
	return $result->{out};
}

sub _postmaster { return (split /\n/, read_file("$_[0]{data}/postmaster.pid"))[0] }

# The role and the tables.
sub fill
{
	my ($self, $scale) = @_;
	my $cluster = $self->{cluster};
	$cluster->psql($self->{node}, 'CREATE ROLE bench LOGIN SUPERUSER');
	$self->_pgbench(300, '-q', '-i', '-s', $scale)->{ok} or $cluster->fail('could not fill the tables');
	return;
}

# Seconds of processor time of the backends that have ended.
sub _backend_time
{
	my ($self) = @_;
	my $pid = $self->_postmaster;
	my @fields = split ' ', (split /\) /, read_file("/proc/$pid/stat"))[1];
	return ($fields[13] + $fields[14]) / 100;
}

# How many backends, also dead ones that the postmaster has not yet waited for?
sub _backends
{
	my ($self) = @_;
	my $postmaster = $self->_postmaster;
	my $count = 0;
	foreach my $pid (split ' ', read_file("/proc/$postmaster/task/$postmaster/children"))
	{
		# without a title it is about to be a zombie, or is one
		my $title = eval { read_file("/proc/$pid/cmdline") } // '';
		$count++ if $title =~ /^(postgres: bench |\0*$)/;
	}
	return $count;
}

# Run it: tps, latency (ms), cpu (microseconds of the server's backends, a transaction).
sub run
{
	my ($self, $time, @args) = @_;
	my $cluster = $self->{cluster};
	my $before  = $self->_backend_time;
	my $result  = $self->_pgbench($time + 120, '--no-vacuum', "--client=$self->{clients}",
		"--jobs=$self->{processors}", '--protocol=prepared', "--time=$time", @args);
	my %said;

	foreach my $pattern (
		[ 'tps',     qr/^tps = ([\d.]+)/m ],
		[ 'latency', qr/^latency average = ([\d.]+) ms/m ],
		[ 'count',   qr/^number of transactions actually processed: (\d+)/m ])
	{
		$result->{out} =~ $pattern->[1] or $cluster->fail("pgbench failed: $result->{out}$result->{err}");
		$said{ $pattern->[0] } = $1;
	}
	# the last backends may still be ending
	$cluster->poll_until(sub { !$self->_backends }, 10, 'the end of the backends');
	return (%said, cpu => 1e6 * ($self->_backend_time - $before) / $said{count});
}

# A defined state: tables vacuumed, WAL on disk, everything in memory.
sub settle
{
	my ($self) = @_;
	$self->psql('VACUUM pgbench_branches, pgbench_tellers, pgbench_accounts');
	$self->psql('CHECKPOINT');
	$self->run(2, '--select-only');
	return;
}

sub measure
{
	my ($self, $time, @args) = @_;
	$self->settle;
	return $self->run($time, @args);
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return @sorted % 2 ? $sorted[ $#sorted / 2 ]
	  : ($sorted[ @sorted / 2 - 1 ] + $sorted[ @sorted / 2 ]) / 2;
}

sub print_head
{
	my ($without, $with) = @_;
	printf "%-38s %10s %12s %10s %16s\n", '', $without, $with, 'ratio', 'range of rounds';
	return;
}

# Two lists of values of the same rounds.
sub print_row
{
	my ($name, $format, $without, $with) = @_;
	my @ratios = map { $with->[$_] / $without->[$_] } 0 .. $#$with;

	printf "%-38s %10s %12s %10.4f %16s\n", $name,
	  sprintf($format, median(@$without)), sprintf($format, median(@$with)),
	  median(@ratios), sprintf('%.3f - %.3f', min(@ratios), max(@ratios));
	return;
}

1;
