# The leader's postmaster is killed, ten times around the nodes: every time a new
# leader, one term later, on a timeline of its own, and nothing is missing that
# had been streamed.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my @gaps;

foreach my $time (1 .. 10)
{
	my $old   = $cluster->wait_for_leader;
	my $term  = $cluster->term($old);
	my $since = now_us();

	$cluster->kill_postmaster($old);
	my $new = $cluster->wait_for_leader(exclude => $old);
	$writer->wait_for_acks(20);
	is($cluster->term($new), $term + 1, "kill $time: $new leads after $old, in the next term");
	push @gaps, $writer->longest_gap(since => $since, until => now_us());
	cmp_ok($gaps[-1], '<', 2000, "kill $time: at once ($gaps[-1] ms)");

	$cluster->wait_for_no_process($old);
	$cluster->start($old);
	is($cluster->wait_for_follower($old), $new, "kill $time: $old follows");
	$cluster->remember($old);
}
note('pauses of the writer, ms: ', join(' ', map { int } sort { $a <=> $b } @gaps));

$cluster->check_end('ten kills', $writer, $probers, losses => 1);
my @history = $cluster->check_history('ten kills');
is(scalar @history, 11, 'eleven leaderships');

done_testing();
