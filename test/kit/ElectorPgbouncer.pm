# ElectorPgbouncer.pm
#
# PgBouncer for tests, and a pgbench that goes through it.
#
#   my $pooler = ElectorPgbouncer->new($cluster, 'pb1', '10.99.0.80');
#   $pooler->start;                     # with the file that belongs to no node
#   $pooler->wait_for_node('n1');       # the leader has pointed it at itself
#   my $bench = ElectorPgbench->new($cluster, $pooler->conninfo, clients => 4);
#   $bench->stop;
#   is($bench->failed, 0); is($bench->aborted, 0); $bench->longest;
#
# Each has a host of its own and the files of contrib/pgbouncer, with nothing in
# them changed but paths and addresses: what users copy is what is tested.
#
# The trap: PgBouncer's console knows only the simple protocol, and `SHOW` has no
# WHERE; answers are taken apart here.

use strict;
use warnings;

#--------------------------------------------------------------------------
package ElectorPgbouncer;

use Cwd qw(abs_path);
use ElectorProcess qw(spawn run_command wait_gone kill_and_wait read_file write_file);
use File::Basename qw(dirname);

our $password = 'hush';

my $shipped = dirname(abs_path(__FILE__)) . '/../../contrib/pgbouncer';

# The setting that names these.
sub setting
{
	my (@poolers) = @_;
	return join '; ', map { 'host=' . $_->{address} . ' port=6432 user=elector' } @poolers;
}

# Passwords, as they would be in production: that of the console in the password file
# of the servers' user, that of the application as the servers keep it.
sub set_passwords
{
	my ($cluster, $leader, @poolers) = @_;
	my $file = $cluster->base . '/.pgpass';

	write_file($file, "*:6432:pgbouncer:elector:$password\n");
	chmod 0600, $file;
	chown $cluster->{uid}, $cluster->{gid}, $file;

	$cluster->psql($leader, "ALTER ROLE app PASSWORD '$password'");
	my $secret = $cluster->psql($leader, q{SELECT rolpassword FROM pg_authid WHERE rolname = 'app'});
	foreach my $pooler (@poolers)
	{
		write_file($pooler->file('userlist.txt'), qq("elector" "$password"\n"app" "$secret"\n));
	}
	foreach my $node ($cluster->nodes)
	{
		my $hba = $cluster->data($node) . '/pg_hba.conf';
		write_file($hba, join '', map({ "host all app $_->{address}/32 scram-sha-256\n" } @poolers), read_file($hba));
	}
	return;
}

sub new
{
	my ($class, $cluster, $name, $address) = @_;
	my $self = bless { cluster => $cluster, name => $name, address => $address,
		directory => $cluster->base . "/$name" }, $class;

	$cluster->network->add_host($name, $address);
	mkdir $self->{directory};
	chown $cluster->{uid}, $cluster->{gid}, $self->{directory};
	$self->_copy('pgbouncer.ini', 'pgbouncer.ini');
	$self->add_node($_) foreach $cluster->nodes;
	return $self;
}

sub _copy
{
	my ($self, $from, $to, %replace) = @_;
	my $text = read_file("$shipped/$from");
	$text =~ s{/etc/pgbouncer|/var/log/postgresql|/var/run/postgresql}{$self->{directory}}g;
	$text =~ s/$_/$replace{$_}/g foreach keys %replace;
	write_file("$self->{directory}/$to", $text);
	return;
}

# The file that points at a node.
sub add_node
{
	my ($self, $node) = @_;
	my $address = $self->{cluster}->address($node);
	return $self->_copy('n1.ini', "$node.ini", 'host=\S+' => "host=$address", 'dbname=n1' => "dbname=$node");
}

sub file { my ($self, $name) = @_; return "$self->{directory}/$name" }
sub log  { return $_[0]{directory} . '/pgbouncer.log' }

# Start, with the file that belongs to no node or another one.
sub start
{
	my ($self, $file) = @_;
	$self->{pid} = spawn({ log => "$self->{directory}/output" },
		$self->{cluster}->as_user($self->{name}), '/usr/sbin/pgbouncer',
		$self->file($file // 'pgbouncer.ini'));
	$self->{cluster}->poll_until(sub { defined $self->console('SHOW VERSION') }, 20,
		"PgBouncer $self->{name}");
	return $self;
}

sub kill { my ($self) = @_; kill_and_wait('KILL', $self->{pid}) or die "PgBouncer does not die\n"; return }
sub freeze { return CORE::kill('STOP', $_[0]{pid}) }
sub thaw   { return CORE::kill('CONT', $_[0]{pid}) }

# A statement to the console: its output, undef after an error, which is kept.
sub console
{
	my ($self, $sql) = @_;
	my $result = run_command(
		{ timeout => 10, env => { PGPASSWORD => $password } },
		$self->{cluster}->network->on('client'), $self->{cluster}->bindir . '/psql', '-X', '-A', '-q',
		'-d', "host=$self->{address} port=6432 user=elector dbname=pgbouncer connect_timeout=2", '-c', $sql);
	$self->{error} = $result->{err};
	return $result->{ok} ? $result->{out} : undef;
}

# The rows of a SHOW, each a hash.
sub show
{
	my ($self, $what) = @_;
	my ($head, @lines) = split /\n/, $self->console("SHOW $what") // return;
	my @columns = split /\|/, $head;
	return map { my %row; @row{@columns} = split /\|/, $_, -1; \%row } grep { !/^\(/ } @lines;
}

# The node whose file is loaded, and whether a leader has paused it.
sub _marker
{
	my ($self, $column) = @_;
	my ($row) = grep { $_->{name} eq 'pg_elector' } $self->show('DATABASES');
	return $row ? $row->{$column} : undef;
}
sub node   { return $_[0]->_marker('database') }
sub marked { return $_[0]->_marker('paused') }

# A setting, as it is in force.
sub setting_of
{
	my ($self, $name) = @_;
	my ($row) = grep { $_->{key} eq $name } $self->show('CONFIG');
	return $row->{value};
}

# PgBouncer shows nowhere that it is paused as a whole, but refuses to be paused
# twice.
sub paused
{
	my ($self) = @_;
	return 1 unless defined $self->console('PAUSE pg_elector');
	$self->console('RESUME pg_elector');
	return 0;
}

sub wait_for_node
{
	my ($self, $node, $timeout) = @_;
	return $self->{cluster}->poll_until(sub { ($self->node // '') eq $node }, $timeout // 15,
		"PgBouncer $self->{name} to point at $node");
}

# What applications use.
sub conninfo
{
	my ($self, %opts) = @_;
	return "host=$self->{address} port=6432 user=app password=$password dbname=postgres connect_timeout="
	  . ($opts{connect_timeout} // 10);
}

sub session
{
	my ($self) = @_;
	return $self->{cluster}->session($self->{name}, over => 'net', conninfo => $self->conninfo);
}

#--------------------------------------------------------------------------
package ElectorPgbench;

use ElectorProcess qw(spawn wait_gone read_file write_file process_alive);
use Time::HiRes qw(sleep);

my $number = 0;

# What its transactions leave: a row for each, and the same counted.
sub create_tables
{
	my ($cluster, $node) = @_;
	$cluster->psql($node, <<'END');
CREATE TABLE public.benched (run int NOT NULL, client int NOT NULL);
CREATE TABLE public.counted (run int NOT NULL, client int NOT NULL, n bigint NOT NULL, PRIMARY KEY (run, client));
ALTER TABLE public.benched OWNER TO app;
ALTER TABLE public.counted OWNER TO app;
END
	return;
}

# Transactions of several statements, none of which is tried twice.  Options:
# clients, args (more for pgbench).
sub new
{
	my ($class, $cluster, $conninfo, %opts) = @_;
	my $run    = ++$number;
	my $prefix = $cluster->base . "/pgbench$run";
	my $self   = bless { cluster => $cluster, run => $run, prefix => $prefix }, $class;

	write_file("$prefix.sql", <<"END");
BEGIN;
INSERT INTO public.benched VALUES ($run, :client_id);
INSERT INTO public.counted VALUES ($run, :client_id, 1) ON CONFLICT (run, client) DO UPDATE SET n = counted.n + 1;
COMMIT;
END
	$self->{pid} = spawn({ log => "$prefix.out" },
		$cluster->network->on('client'), $cluster->bindir . '/pgbench', '-n', '-c', $opts{clients} // 4,
		'-T', 3600, '--max-tries=1', '-l', "--log-prefix=$prefix", '-f', "$prefix.sql",
		@{ $opts{args} // [] }, $conninfo);
	return $cluster->_client($self);
}

sub running { return process_alive($_[0]{pid}) }

# Its time is over; what it did is read.
sub stop
{
	my ($self) = @_;
	return $self if $self->{stopped}++;
	CORE::kill('ALRM', $self->{pid}) if $self->running;
	wait_gone(20, $self->{pid}) or CORE::kill('KILL', $self->{pid});
	my $out = -e "$self->{prefix}.out" ? read_file("$self->{prefix}.out") : '';
	$self->{out}    = $out;
	$self->{acked}  = $out =~ /^number of transactions actually processed: (\d+)/m ? $1 : undef;
	$self->{failed} = $out =~ /^number of failed transactions: (\d+)/m ? $1 : undef;
	$self->{times}  = [];
	foreach my $log (grep { m{/pgbench\d+\.\d+(\.\d+)?$} } glob("$self->{prefix}.*"))
	{
		push @{ $self->{times} }, map { (split ' ')[2] } split /\n/, read_file($log);
	}
	return $self;
}

sub DESTROY { local ($?, $@); $_[0]->stop if !$_[0]{stopped} }

# Transactions that were acknowledged, that failed, clients that gave up.  A pgbench
# that did not end by itself has told nothing.
sub acked   { return $_[0]{acked} // 0 }
sub failed  { return $_[0]{failed} // 'unknown' }
sub aborted { return scalar(() = $_[0]{out} =~ /aborted/g) }

# The longest transaction, in milliseconds.
sub longest
{
	my ($self) = @_;
	my ($longest) = sort { $b <=> $a } grep { /^\d+$/ } @{ $self->{times} };
	return defined $self->{acked} ? $longest / 1000 : 9e9;
}

# What of it the leader has: rows, and the sum of the counters.
sub present
{
	my ($self, $node) = @_;
	return split /\|/, $self->{cluster}->psql($node,
		"SELECT (SELECT count(*) FROM public.benched WHERE run = $self->{run}),"
		  . " (SELECT coalesce(sum(n), 0) FROM public.counted WHERE run = $self->{run})");
}

1;
