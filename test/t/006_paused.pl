# What stands still for longer than the lease, and goes on: the leader's worker
# alone, then every process of its host.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $ttl     = 2;
my $cluster = ElectorCluster->new(nodes => 3, ttl => "${ttl}s")->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;

foreach my $case ([ 'worker', 'stop_worker', 'cont_worker' ], [ 'host', 'stop_all', 'cont_all' ])
{
	my ($what, $pause, $go_on) = @$case;
	my $old  = $cluster->wait_for_leader;
	my $term = $cluster->term($old);
	$probers->wait_for_ack($old);

	my $since = now_us();
	$cluster->$pause($old);
	my $paused = now_us();
	my $new = $cluster->wait_for_leader(exclude => $old);
	$probers->wait_for_ack($new);
	is($cluster->term($new), $term + 1, "$what paused: another leads in the next term");

	# Longer than the TTL in any case.
	$cluster->poll_until(sub { now_us() - $since > $ttl * 1.5e6 }, 10, 'more than the TTL to pass');
	$cluster->$go_on($old);
	my $going_on = now_us();

	is($cluster->wait_for_follower($old), $new, "$what paused: it follows when it goes on");
	my $first = $probers->first_ack(node => $new, since => $since);
	my $last = $probers->last_ack($old);
	cmp_ok($last->{acked}, '<', $paused + $ttl * 1e6, "$what paused: nothing was acknowledged there after the deadline");
	cmp_ok($last->{acked}, '<', $first->{acked}, "$what paused: nor after the other's first");
	$cluster->check_whole("$what paused");
	$writer->wait_for_acks(10);
}

$cluster->check_end('paused', $writer, $probers, losses => 1);
$cluster->check_history('paused');

done_testing();
