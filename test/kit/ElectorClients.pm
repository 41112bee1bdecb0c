# ElectorClients.pm
#
# The clients of a test and what they saw: a writer that uses the cluster as an
# application does, probers that try each server by itself, users of registers,
# and a psql session that stays open.  The work is done by client.c; here are its
# wrappers and the checks of its logs.
#
# What the logs can prove, and what they cannot:
#
# An acknowledged probe (node, term, sent, acked) says that at some instant
# between sent and acked the node's gate was open for that term.  One Linux
# clock times them all, so instants on different nodes compare.
#
#  1. Leaderships of two terms exclude each other in time, so all instants of
#     the older lie before all instants of the newer.  When the latest start
#     (sent) of an older term's probe is not before the earliest end (acked) of
#     a newer term's, no choice of instants does that: two gates were open at
#     once, or a term went backwards.  That is a proof, and its absence is all
#     that intervals can say.
#  2. Two nodes that acknowledge in one term: a proof.
#  3. An acknowledgement of an older term that arrives after the first one of a
#     newer term: its interval alone may still have an early instant, but the
#     server looks at the gate directly before it answers, and probers sit on
#     the server's host and always listen.  So more than a scheduling delay
#     ("slack") of lateness means that the last look was missing.

use strict;
use warnings;

#--------------------------------------------------------------------------
package ElectorClient;

use ElectorProcess qw(spawn process_alive wait_gone now);
use Test::More ();
use Time::HiRes qw(sleep);

my $number = 0;

sub _new
{
	my ($class, $cluster, $kind) = @_;
	return bless { cluster => $cluster, log => sprintf('%s/%s%d.log', $cluster->base, $kind, ++$number),
		pids => [], position => {}, acks => [], errors => [], unknown => [], refused => [], events => [] }, $class;
}

# End, and read the rest of the log.
sub stop
{
	my ($self) = @_;
	return $self if $self->{stopped}++;
	kill 'CONT', @{ $self->{pids} };
	kill 'TERM', @{ $self->{pids} };
	wait_gone(35, @{ $self->{pids} }) or kill 'KILL', @{ $self->{pids} };
	$self->_read;
	return $self;
}

sub DESTROY { local ($?, $@); $_[0]->stop if !$_[0]{stopped} && @{ $_[0]{pids} } }

# Whole lines that have been added to a log since the last look.
sub _new_lines
{
	my ($self, $log) = @_;
	open(my $fh, '<', $log) or return;
	seek($fh, $self->{position}{$log} // 0, 0);
	local $/;
	my $text = <$fh> // '';
	$text =~ s/[^\n]*\z//;
	$self->{position}{$log} += length $text;
	return split /\n/, $text;
}

sub acks    { $_[0]->_read; return @{ $_[0]{acks} } }
sub errors  { $_[0]->_read; return @{ $_[0]{errors} } }
sub unknown { $_[0]->_read; return @{ $_[0]{unknown} } }

#--------------------------------------------------------------------------
package ElectorWriter;

our @ISA = qw(ElectorClient);

use ElectorProcess qw(spawn now_us);
use Test::More ();

# Options: interval_ms, statement_ms, connect_ms, duration, start, table, conninfo;
# program: another one (the words of a command) that takes the same arguments
# and writes the same log
sub new
{
	my ($class, $cluster, %opts) = @_;
	my $self = ElectorClient::_new($class, $cluster, 'writer');
	my $table = $opts{table} // 'public.rows';
	my @args;

	$self->{table} = $table;
	foreach my $name (qw(interval_ms statement_ms connect_ms duration start))
	{
		(my $option = $name) =~ tr/_/-/;
		push @args, "--$option", $opts{$name} if defined $opts{$name};
	}
	$self->{pids} = [ spawn({ log => "$self->{log}.err" }, $cluster->network->on('client'),
			$opts{program} ? @{ $opts{program} } : ($cluster->client_program, 'writer'),
			$opts{conninfo} // $cluster->conninfo_all,
			$table, $self->{log}, @args) ];
	$self->wait_for_acks(10) unless $opts{no_wait};
	return $self;
}

# acks: { n, sent, acked, host, session }; a session number grows with every
# error, so that rows of one number were acknowledged by one leadership.
sub _read
{
	my ($self) = @_;
	foreach my $line ($self->_new_lines($self->{log}))
	{
		my ($kind, @f) = split / /, $line, 5;
		if ($kind eq 'A')
		{
			push @{ $self->{acks} }, { n => $f[0], sent => $f[1], acked => $f[2], host => $f[3],
				session => scalar @{ $self->{errors} } };
		}
		elsif ($kind eq 'U') { push @{ $self->{unknown} }, { n => $f[0], sent => $f[1], at => $f[2] } }
		elsif ($kind eq 'R') { push @{ $self->{refused} }, { n => $f[0], sent => $f[1], at => $f[2], sqlstate => $f[3] } }
		elsif ($kind eq 'E') { push @{ $self->{errors} }, { at => $f[0], sqlstate => $f[1], host => $f[2], message => $f[3] } }
	}
	return;
}

# Wait for that many more acknowledgements.
sub wait_for_acks
{
	my ($self, $count, $timeout) = @_;
	my $from = now_us();
	$self->{cluster}->poll_until(
		sub { $count <= grep { $_->{sent} >= $from } $self->acks },
		$timeout // 20, "$count acknowledged rows");
	return;
}

# The longest time between two consecutive acknowledgements, in ms.  Options:
# since, until (microseconds): the gap must touch that time.
sub longest_gap
{
	my ($self, %opts) = @_;
	my ($longest, $previous) = (0, undef);
	foreach my $ack ($self->acks)
	{
		my $at = $ack->{acked};
		if (defined $previous && $at >= ($opts{since} // 0) && $previous <= ($opts{until} // 9e18))
		{
			my $gap = ($at - $previous) / 1000;
			$longest = $gap if $gap > $longest;
		}
		$previous = $at;
	}
	return $longest;
}

# Tests the table on a leader against what was acknowledged:
#  - no number twice,
#  - no number that the server had refused,
#  - no acknowledged number missing; or, with losses => 1 (asynchronous
#    replication, the leader died), only the last ones of a leadership: what
#    is there is a prefix of what each session was told.  So a row that had
#    been streamed is not missing while a later one is there.
# Returns the number of lost rows.
sub check_rows
{
	my ($self, $leader, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (%count, @lost, @holes, %lost_in);

	foreach my $line (split /\n/, $self->{cluster}->psql($leader,
			"SELECT n, count(*) FROM $self->{table} GROUP BY n", timeout => 60))
	{
		my ($n, $count) = split /\|/, $line;
		$count{$n} = $count;
	}
	my @doubled = grep { $count{$_} > 1 } keys %count;
	my @ghosts  = grep { $count{ $_->{n} } } @{ $self->{refused} };
	my @acks    = $self->acks;
	foreach my $ack (@acks)
	{
		if (!$count{ $ack->{n} })
		{
			push @lost, $ack->{n};
			$lost_in{ $ack->{session} } = $ack->{n};
		}
		elsif ($lost_in{ $ack->{session} }) { push @holes, $ack->{n} }
	}

	my $name = $opts{name} // "rows on $leader";
	Test::More::cmp_ok(scalar @acks, '>', 0, "$name: some were acknowledged");
	Test::More::is("@doubled", '', "$name: none twice");
	Test::More::is(join(' ', map { $_->{n} } @ghosts), '', "$name: none that was refused");
	if ($opts{losses})
	{
		Test::More::is("@holes", '', "$name: what is missing is the end of a leadership");
		Test::More::note(scalar(@lost), ' of ', scalar(@acks), ' acknowledged rows were lost');
	}
	else
	{
		Test::More::is("@lost", '', "$name: every acknowledged one is there");
	}
	return scalar @lost;
}

#--------------------------------------------------------------------------
package ElectorProbers;

our @ISA = qw(ElectorClient);

use ElectorProcess qw(spawn now_us);
use Test::More ();

# One prober for each node, over its Unix socket.  A statement is waited for
# as long as statement_ms, so that an answer that comes after a pause is seen.
# Options: nodes, interval_ms, fresh_ms, statement_ms, term
sub new
{
	my ($class, $cluster, %opts) = @_;
	my $self = ElectorClient::_new($class, $cluster, 'prober');

	foreach my $node (@{ $opts{nodes} // [ $cluster->nodes ] })
	{
		my $log = "$self->{log}.$node";
		$self->{logs}{$node} = $log;
		push @{ $self->{pids} }, spawn({ log => "$self->{log}.err" },
			$cluster->client_program, 'prober', $cluster->conninfo($node, user => 'app'),
			$node, 'public.probes', $log,
			'--interval-ms',  $opts{interval_ms} // 20,
			'--fresh-ms',     $opts{fresh_ms} // 200,
			'--connect-ms',   1000,
			'--statement-ms', $opts{statement_ms} // 30000,
			'--term', $opts{term} // ($cluster->{plain} ? '0' : 'elector_term()'));
	}
	my $leader = $cluster->leader;
	$self->wait_for_ack($leader) if defined $leader;
	return $self;
}

# acks: { node, sent, acked, term }; errors: { node, at, sqlstate, where, message }
sub _read
{
	my ($self) = @_;
	foreach my $node (sort keys %{ $self->{logs} })
	{
		foreach my $line ($self->_new_lines($self->{logs}{$node}))
		{
			my ($kind, @f) = split / /, $line, 5;
			if ($kind eq 'A') { push @{ $self->{acks} }, { node => $node, sent => $f[1], acked => $f[2], term => $f[3] } }
			elsif ($kind eq 'U') { push @{ $self->{unknown} }, { node => $node, sent => $f[1], at => $f[2] } }
			elsif ($kind eq 'E')
			{
				push @{ $self->{errors} },
				  { node => $node, at => $f[0], sqlstate => $f[1], where => $f[2], message => $f[3] };
			}
		}
	}
	return;
}

# Wait until a node acknowledges a probe that is sent from now on.
sub wait_for_ack
{
	my ($self, $node, $timeout) = @_;
	my $from = now_us();
	return $self->{cluster}->poll_until(
		sub { (grep { $_->{node} eq $node && $_->{sent} >= $from } $self->acks)[0] },
		$timeout // 20, "$node to acknowledge a probe");
}

# Wait for an error of a node: sqlstate, where ('session' or 'connect').
sub wait_for_error
{
	my ($self, $node, $sqlstate, $where, $since, $timeout) = @_;
	return $self->{cluster}->poll_until(
		sub {
			(grep { $_->{node} eq $node && $_->{at} >= $since && $_->{sqlstate} eq $sqlstate
					  && $_->{where} eq $where } $self->errors)[0];
		},
		$timeout // 20, "error $sqlstate ($where) from $node");
}

# The gate of a node has closed: the first probe that a session was refused, or that got
# no answer, having passed the gate before it closed.
sub wait_for_close
{
	my ($self, $node, $since, $timeout) = @_;
	return $self->{cluster}->poll_until(
		sub {
			(grep { $_->{node} eq $node && $_->{at} >= $since && $_->{where} eq 'session'
					  && $_->{sqlstate} =~ /^(?:25006|-----)$/ } $self->errors)[0];
		},
		$timeout // 20, "the gate of $node to close");
}

# The last acknowledgement of a node in some time, undef when there is none.
sub last_ack
{
	my ($self, $node, %opts) = @_;
	my ($last) = sort { $b->{acked} <=> $a->{acked} }
	  grep { $_->{node} eq $node && $_->{acked} >= ($opts{since} // 0) && $_->{sent} <= ($opts{until} // 9e18) }
	  $self->acks;
	return $last;
}

sub first_ack
{
	my ($self, %opts) = @_;
	my ($first) = sort { $a->{acked} <=> $b->{acked} }
	  grep { (!defined $opts{node} || $_->{node} eq $opts{node}) && $_->{sent} >= ($opts{since} // 0)
			&& (!defined $opts{not} || $_->{node} ne $opts{not}) } $self->acks;
	return $first;
}

# Stop, and test that no two gates were open at once.
sub check
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->stop;
	return ElectorClients::check_one_writer([ $self->acks ], $name);
}

#--------------------------------------------------------------------------
package ElectorRegisters;

our @ISA = qw(ElectorClient);

use ElectorProcess qw(spawn now_us run_command);
use Test::More ();

# Clients that share a few registers: some through all hosts, and some on each node by
# itself, over its Unix socket.  The latter are patient, so that an answer that comes
# after a pause is seen.
# Options: registers, through (how many clients use all hosts), on_each, interval_ms
sub new
{
	my ($class, $cluster, %opts) = @_;
	my $self = ElectorClient::_new($class, $cluster, 'registers');
	my @clients = (map { [ 'all', $cluster->conninfo_all, 1000 ] } 1 .. $opts{through} // 3);

	foreach my $node ($cluster->nodes)
	{
		push @clients, map { [ $node, $cluster->conninfo($node, user => 'app') . ' target_session_attrs=read-write', 30000 ] }
		  1 .. $opts{on_each} // 1;
	}
	$self->{registers} = $opts{registers} // 8;
	foreach my $number (1 .. @clients)
	{
		my ($node, $conninfo, $statement_ms) = @{ $clients[ $number - 1 ] };
		my $log = "$self->{log}.$number";
		$self->{logs}{$log} = $node;
		push @{ $self->{pids} }, spawn({ log => "$self->{log}.err" },
			$node eq 'all' ? $cluster->network->on('client') : (),
			$cluster->client_program, 'registers', $conninfo, $log,
			'--client', $number, '--registers', $self->{registers},
			'--interval-ms', $opts{interval_ms} // 5, '--statement-ms', $statement_ms,
			# each attempt costs the server a process
			'--reconnect-ms', 200);
	}
	$self->wait_for_acks(20);
	return $self;
}

# acks: { node ('all', or the one it was asked on), sent, acked, what }, writes only;
# errors: { node, at, sqlstate, where }
sub _read
{
	my ($self) = @_;
	foreach my $log (sort keys %{ $self->{logs} })
	{
		my $node = $self->{logs}{$log};
		foreach my $line ($self->_new_lines($log))
		{
			my @f = split / /, $line, 6;
			if ($f[0] eq '#') { push @{ $self->{errors} }, { node => $node, at => $f[1], sqlstate => $f[2], where => $f[3] } }
			elsif ($f[2] ne '-' && $f[4] eq 'write')
			{
				push @{ $self->{acks} }, { node => $node, sent => $f[1], acked => $f[2], what => $f[5] };
			}
		}
	}
	return;
}

# Wait for that many more writes through all hosts.
sub wait_for_acks
{
	my ($self, $count, $timeout) = @_;
	my $from = now_us();
	$self->{cluster}->poll_until(
		sub { $count <= grep { $_->{node} eq 'all' && $_->{sent} >= $from } $self->acks },
		$timeout // 60, "$count writes to registers");
	return;
}

# What linearizable.c says of all that was done: out, ok.
sub verdict
{
	my ($self) = @_;
	my $directory = $self->{cluster}->client_program =~ s{/[^/]*$}{}r;
	$self->stop;
	return run_command({ timeout => 300 }, "$directory/linearizable", sort keys %{ $self->{logs} });
}

#--------------------------------------------------------------------------
package ElectorSession;

use ElectorProcess qw(now wait_gone);
use IO::Handle;
use IO::Select;
use POSIX ();

# A psql that stays connected, on the host itself or (over => 'net') from the
# clients' network.
sub new
{
	my ($class, $cluster, $node, %opts) = @_;
	my @cmd = (
		($opts{over} // '') eq 'net' ? $cluster->network->on('client') : (),
		$cluster->bindir . '/psql', '-X', '-q', '-A', '-t', '-v', 'VERBOSITY=verbose',
		'-d', $opts{conninfo} // $cluster->conninfo($node, user => 'app', %opts));

	pipe(my $in_r,  my $in_w)  or die "could not create a pipe: $!\n";
	pipe(my $out_r, my $out_w) or die "could not create a pipe: $!\n";
	my $pid = fork() // die "could not fork: $!\n";
	if ($pid == 0)
	{
		open(STDIN,  '<&', $in_r);
		open(STDOUT, '>&', $out_w);
		open(STDERR, '>&', $out_w);
		close($_) foreach ($in_r, $in_w, $out_r, $out_w);
		$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP PIPE);
		{ no warnings 'exec'; exec { $cmd[0] } @cmd; }
		POSIX::_exit(127);
	}
	close($in_r);
	close($out_w);
	$in_w->autoflush(1);
	my $self = bless { pid => $pid, in => $in_w, out => $out_r, buffer => '', serial => 0 }, $class;
	$self->query('SELECT 1')->{ok} or die "could not open a session on $node: $self->{buffer}\n";
	return $self;
}

sub send
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	$self->{serial}++;
	print { $self->{in} } "$sql;\n\\echo '=$self->{serial}=' :SQLSTATE\n";
	return;
}

# The answer to what was sent: ok, out, err, sqlstate, alive, timed_out.
sub finish
{
	my ($self, $timeout) = @_;
	my $deadline = now() + ($timeout // 10);
	my $end      = qr/^=$self->{serial}= (\w{5})\n/m;
	my $select   = IO::Select->new($self->{out});
	my $alive    = 1;
	my $timed_out = 0;

	while ($self->{buffer} !~ $end)
	{
		my $left = $deadline - now();
		if ($left <= 0 || !$select->can_read($left)) { $timed_out = 1; last }
		if (!sysread($self->{out}, $self->{buffer}, 65536, length $self->{buffer})) { $alive = 0; last }
	}
	return { ok => 0, out => '', err => '', sqlstate => '', alive => 1, timed_out => 1 } if $timed_out;

	my ($text, $sqlstate) = ($self->{buffer}, '');
	if ($self->{buffer} =~ $end)
	{
		$sqlstate = $1;
		$text = substr($self->{buffer}, 0, $-[0]);
		substr($self->{buffer}, 0, $+[0]) = '';
	}
	elsif ($text =~ /(?:ERROR|FATAL):  (\w{5}):/) { $sqlstate = $1 }
	my $err = join "\n", grep { /^(psql:|ERROR|FATAL|PANIC|WARNING|NOTICE|DETAIL|HINT|LOCATION|server closed|\s)/ } split /\n/, $text;
	my $out = join "\n", grep { !/^(psql:|ERROR|FATAL|PANIC|WARNING|NOTICE|DETAIL|HINT|LOCATION|server closed|\s)/ } split /\n/, $text;
	return { ok => $alive && $sqlstate eq '00000', out => $out, err => $err,
		sqlstate => $sqlstate, alive => $alive, timed_out => 0 };
}

sub query
{
	my ($self, $sql, $timeout) = @_;
	$self->send($sql);
	return $self->finish($timeout);
}

# The process of its backend; to be asked for while it has nothing to do.
sub backend { my ($self) = @_; return $self->{backend} //= $self->query('SELECT pg_backend_pid()')->{out} }

sub stop
{
	my ($self) = @_;
	return $self if $self->{stopped}++;
	close($self->{in});
	kill 'KILL', $self->{pid} unless wait_gone(0.2, $self->{pid});
	wait_gone(5, $self->{pid});
	return $self;
}

sub DESTROY { local ($?, $@); $_[0]->stop unless $_[0]{stopped} }

#--------------------------------------------------------------------------
package ElectorClients;

use Test::More ();

my $slack = 50_000;    # microseconds; see 3. above

# What the acknowledged probes prove (see the head of this file); an empty list
# is what one wants.
sub violations
{
	my ($acks) = @_;
	my (%terms, @found);

	foreach my $ack (@$acks)
	{
		my $term = $terms{ $ack->{term} } //= { last_sent => 0, first_acked => 9e18, nodes => {} };
		$term->{nodes}{ $ack->{node} } = 1;
		$term->{last_sent}   = $ack->{sent}  if $ack->{sent} > $term->{last_sent};
		$term->{first_acked} = $ack->{acked} if $ack->{acked} < $term->{first_acked};
	}

	my @numbers = sort { $a <=> $b } keys %terms;
	foreach my $i (0 .. $#numbers)
	{
		my ($number, $term) = ($numbers[$i], $terms{ $numbers[$i] });
		my @nodes = sort keys %{ $term->{nodes} };
		push @found, "term $number was acknowledged by @nodes" if @nodes > 1;

		# The earliest sign of any newer term.
		my $newer = 9e18;
		foreach (@numbers[ $i + 1 .. $#numbers ])
		{
			$newer = $terms{$_}{first_acked} if $terms{$_}{first_acked} < $newer;
		}
		push @found, sprintf('term %s (%s) was open %d us after a newer one', $number, "@nodes",
			$term->{last_sent} - $newer)
		  if $term->{last_sent} >= $newer;
		push @found, map {
			sprintf('term %s (%s) acknowledged %d us after a newer one', $number, $_->{node}, $_->{acked} - $newer)
		} grep { $_->{term} == $number && $_->{sent} < $newer && $_->{acked} > $newer + $slack } @$acks;
	}
	return @found;
}

# Acknowledged probes in the order of their arrival, as stretches of one node
# and term.
sub runs
{
	my ($acks) = @_;
	my @runs;
	foreach my $ack (sort { $a->{acked} <=> $b->{acked} } @$acks)
	{
		my $run = $runs[-1];
		if (!$run || $run->{node} ne $ack->{node} || $run->{term} != $ack->{term})
		{
			push @runs, $run = { node => $ack->{node}, term => $ack->{term}, from => $ack->{sent}, count => 0 };
		}
		$run->{to} = $ack->{acked};
		$run->{count}++;
	}
	return @runs;
}

# Tests that no two gates were open at once.
sub check_one_writer
{
	my ($acks, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @found = violations($acks);
	my @runs  = runs($acks);

	Test::More::note(sprintf('%s, term %s: %d probes in %.3f s', $_->{node}, $_->{term}, $_->{count},
			($_->{to} - $_->{from}) / 1e6)) foreach @runs;
	Test::More::cmp_ok(scalar @$acks, '>', 0, ($name // 'probers') . ': some probes were acknowledged');
	Test::More::is(join("\n", @found), '', ($name // 'probers') . ': never two open gates')
	  or Test::More::diag(scalar(@runs), ' runs');
	return @found == 0;
}

1;
