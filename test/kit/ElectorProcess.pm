# ElectorProcess.pm
#
# Start programs, wait for them with a bound, read the clock.  Everything the
# kit runs goes through here, so that no test can hang on a server that does
# not answer.  Core modules only.
#
# The trap: a forked child inherits the END blocks and the signal handlers of
# the test.  The children here leave through exec or POSIX::_exit, never exit.

package ElectorProcess;

use strict;
use warnings;

use Exporter qw(import);
use IO::Select;
use POSIX qw(:sys_wait_h :signal_h);
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);

our @EXPORT_OK = qw(now now_us run_command must_run spawn process_alive wait_gone
  kill_and_wait read_file write_file);

# Seconds, and microseconds, of the clock that the client program logs.
sub now    { return clock_gettime(CLOCK_MONOTONIC) }
sub now_us { return int(clock_gettime(CLOCK_MONOTONIC) * 1_000_000) }

sub read_file
{
	my ($path) = @_;
	open(my $fh, '<', $path) or die "could not read $path: $!\n";
	local $/;
	my $content = <$fh>;
	return defined $content ? $content : '';
}

sub write_file
{
	my ($path, $content) = @_;
	open(my $fh, '>', $path) or die "could not write $path: $!\n";
	print $fh $content;
	close($fh) or die "could not write $path: $!\n";
	return;
}

sub _exec_child
{
	my ($env, $cmd) = @_;

	$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD);
	foreach my $name (keys %$env)
	{
		if (defined $env->{$name}) { $ENV{$name} = $env->{$name} }
		else { delete $ENV{$name} }
	}
	{ no warnings 'exec'; exec { $cmd->[0] } @$cmd; }
	print STDERR "could not run $cmd->[0]: $!\n";
	POSIX::_exit(127);
}

# Run a command to its end, or to the bound: then it is killed.
#
# Options: timeout (seconds, default 30), env (hash, undef removes), stdin.
# Returns a hash: ok, rc, out, err, timed_out.  Output is not waited for once
# the command itself has ended (a daemon that it started may keep the pipe).
sub run_command
{
	my ($opts, @cmd) = @_;
	my $deadline = now() + ($opts->{timeout} // 30);
	my %result   = (rc => -1, out => '', err => '', timed_out => 0);

	pipe(my $out_r, my $out_w) or die "could not create a pipe: $!\n";
	pipe(my $err_r, my $err_w) or die "could not create a pipe: $!\n";
	pipe(my $in_r,  my $in_w)  or die "could not create a pipe: $!\n";

	my $pid = fork() // die "could not fork: $!\n";
	if ($pid == 0)
	{
		open(STDIN,  '<&', $in_r);
		open(STDOUT, '>&', $out_w);
		open(STDERR, '>&', $err_w);
		close($_) foreach ($in_r, $in_w, $out_r, $out_w, $err_r, $err_w);
		_exec_child($opts->{env} // {}, \@cmd);
	}
	close($_) foreach ($out_w, $err_w, $in_r);
	{
		# The command reads all of it before it says much.
		local $SIG{PIPE} = 'IGNORE';
		syswrite($in_w, $opts->{stdin}) if defined $opts->{stdin};
		close($in_w);
	}

	my $select = IO::Select->new($out_r, $err_r);
	my $ended  = 0;
	while (1)
	{
		my @ready = $select->can_read($ended ? 0 : 0.05);
		foreach my $fh (@ready)
		{
			my $got = sysread($fh, my $chunk, 65536);
			if (!$got) { $select->remove($fh); next; }
			$result{ $fh == $out_r ? 'out' : 'err' } .= $chunk;
		}
		last if $ended && (!@ready || !$select->count);
		next if $ended;

		if (waitpid($pid, $select->count ? WNOHANG : 0) == $pid)
		{
			$result{rc} = $?;
			$ended = 1;
		}
		elsif (now() > $deadline)
		{
			kill 'KILL', $pid;
			waitpid($pid, 0);
			$result{timed_out} = 1;
			$ended = 1;
		}
	}
	$result{ok} = ($result{rc} == 0 && !$result{timed_out}) ? 1 : 0;
	return \%result;
}

# Run a command that has to succeed; returns its output.
sub must_run
{
	my ($opts, @cmd) = @_;
	my $result = run_command($opts, @cmd);
	die "failed"
	  . ($result->{timed_out} ? ' (out of time)' : '')
	  . ": @cmd\n$result->{out}$result->{err}"
	  unless $result->{ok};
	return $result->{out};
}

# Start a program in the background, its output appended to a file.
sub spawn
{
	my ($opts, @cmd) = @_;
	my $log = $opts->{log} // '/dev/null';

	my $pid = fork() // die "could not fork: $!\n";
	if ($pid == 0)
	{
		open(STDIN,  '<',  '/dev/null');
		open(STDOUT, '>>', $log);
		open(STDERR, '>&', \*STDOUT);
		_exec_child($opts->{env} // {}, \@cmd);
	}
	return $pid;
}

# Servers outlive the pg_ctl that started them.  This process adopts and reaps
# them, as init would, because a postmaster takes a zombie for a living server.
# (prctl, PR_SET_CHILD_SUBREAPER; elsewhere it is left to the real init.)
{
	my %prctl = (x86_64 => 157, aarch64 => 167);
	my $machine = (POSIX::uname())[4];
	syscall($prctl{$machine}, 36, 1, 0, 0, 0) if $prctl{$machine};
}

sub process_alive
{
	my ($pid) = @_;
	return 0 unless $pid;
	return 0 if waitpid($pid, WNOHANG) == $pid;
	return -d "/proc/$pid" ? 1 : 0;
}

# Wait until processes are gone; false when the bound has passed.
sub wait_gone
{
	my ($timeout, @pids) = @_;
	my $deadline = now() + $timeout;
	foreach my $pid (@pids)
	{
		while (process_alive($pid))
		{
			return 0 if now() > $deadline;
			sleep(0.01);
		}
	}
	return 1;
}

sub kill_and_wait
{
	my ($signal, @pids) = @_;
	kill $signal, @pids if @pids;
	return wait_gone(15, @pids);
}

1;
