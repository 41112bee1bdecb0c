# A backend of the leader dies by SIGKILL, and the postmaster restarts everything
# in place: as a standby, in the same process.  A leader takes writes again
# within a second and a half.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;

foreach my $time (1 .. 2)
{
	my $old    = $cluster->wait_for_leader;
	my $term   = $cluster->term($old);
	my $offset = $cluster->log_offset($old);
	my $since  = now_us();

	$cluster->kill_one_backend($old);
	$cluster->wait_log($old, qr/entering standby mode/, $offset);
	pass("crash $time: it comes back as a standby");
	$writer->wait_for_acks(20);
	my $gap = $writer->longest_gap(since => $since);
	cmp_ok($gap, '<', 5000, "crash $time: no lease was waited for ($gap ms)");
	my $new = $cluster->wait_for_leader;
	is($cluster->term($new), $term + 1, "crash $time: $new leads after $old, in the next term");
	$cluster->check_whole("crash $time");
}

# A follower's crash is nobody else's business, nor its chance to be promoted.
my $leader = $cluster->leader;
my $term   = $cluster->term($leader);
my ($follower) = grep { $_ ne $leader } $cluster->nodes;
my $offset = $cluster->log_offset($follower);
$writer->wait_for_acks(20);
my $since = now_us();
write_file($cluster->data($follower) . '/promote', '');    # left over
$cluster->kill_one_backend($follower);
$cluster->wait_log($follower, qr/all server processes terminated/, $offset);
$cluster->wait_for_follower($follower);
unlike($cluster->log_since($follower, $offset), qr/received promote request/, 'a follower crashes: it is not promoted');
ok(!-e $cluster->data($follower) . '/promote', 'a follower crashes: what asked for it is removed');
is($cluster->term($leader), $term, 'a follower crashes: the leader stays');
my $gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 1000, "and goes on ($gap ms)");

$cluster->check_end('crash restart', $writer, $probers, losses => 1);
$cluster->check_history('crash restart');

done_testing();
