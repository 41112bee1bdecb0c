# crowd.pl
#
# Clients that are slow on purpose, for tests of the HTTP endpoint.
#
#   perl crowd.pl KIND COUNT ADDRESS PORT LOG
#
# Opens COUNT connections and holds on to them: `drip` sends a byte of a request now
# and then, `silent` sends nothing, `deaf` asks and does not read, `noise` sends what is
# no request.  For each connection that the other side ends, LOG gets a line with the
# seconds that it has lived.  Ends when all have ended, or it is killed.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Time::HiRes qw(time sleep);

my ($kind, $count, $address, $port, $path) = @ARGV;
my %since;
my %socket;

$SIG{PIPE} = 'IGNORE';
open(my $log, '>', $path) or die "could not write $path: $!\n";
$log->autoflush(1);

foreach (1 .. $count)
{
	my $socket = IO::Socket::INET->new(Proto => 'tcp') or die "could not make a socket: $!\n";
	setsockopt($socket, SOL_SOCKET, SO_RCVBUF, 1024) if $kind eq 'deaf';
	connect($socket, pack_sockaddr_in($port, inet_aton($address))) or die "could not connect: $!\n";
	$since{$socket}  = time();
	$socket{$socket} = $socket;
	syswrite($socket, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") if $kind eq 'deaf';
	syswrite($socket, "GET /status HTTP/1.1\r\nX-Slow: ") if $kind eq 'drip';
	syswrite($socket, "\x16\x03\x01\x00\xff" . join '', map { chr(($_ * 37) % 256) } 1 .. 2000) if $kind eq 'noise';
}
print $log "open\n";

while (%socket)
{
	my @ended;

	sleep(0.5);
	foreach my $socket (values %socket)
	{
		my $ended = 0;
		$ended = !defined syswrite($socket, 'x') if $kind eq 'drip';
		if (!$ended && $kind ne 'deaf')
		{
			my $select = IO::Select->new($socket);
			$ended = 1 if $select->can_read(0) && !sysread($socket, my $rest, 65536);
		}
		push @ended, $socket if $ended;
	}
	foreach my $socket (@ended)
	{
		printf $log "ended %.1f\n", time() - $since{$socket};
		delete $socket{$socket};
		close($socket);
	}
}
