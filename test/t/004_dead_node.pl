# The leader's host dies: silent, without a process.  Another leads within the
# lease's TTL plus a second; so does the last one when that host dies, too.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $ttl     = 2000;
my $cluster = ElectorCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my @dead;

foreach my $time (1 .. 2)
{
	my $old = $cluster->wait_for_leader(exclude => \@dead);
	$writer->wait_for_acks(20);
	my $since = now_us();
	push @dead, $old;
	$cluster->kill_all($old);
	my $new = $cluster->wait_for_leader(exclude => \@dead);
	my $ack = $cluster->poll_until(sub { $probers->first_ack(node => $new, since => $since) },
		10, "$new to acknowledge a probe");
	my $after = ($ack->{acked} - $since) / 1000;
	cmp_ok($after, '<', $ttl + 1000, "death $time: another takes writes within the TTL and a second ($after ms)");
	$writer->wait_for_acks(20);
}

# Both come back.
foreach my $node (@dead)
{
	$cluster->revive($node);
	$cluster->start($node);
	$cluster->wait_for_follower($node);
	is_deeply({ $cluster->configuration_files($node) }, $cluster->{before}{$node}{files},
		"$node is back with its own configuration");
	$cluster->remember($node);
}
$cluster->check_end('dead nodes', $writer, $probers, losses => 1);
$cluster->check_history('dead nodes');

# Nothing else happens: the followers find out by asking, long before the lease
# has ended.
my $idle = ElectorCluster->new(nodes => 3, ttl => '30s')->build;
my %offset = map { $_ => $idle->log_offset($_) } $idle->nodes;
$idle->kill_all('n1');
$idle->wait_log($_, qr/the leader does not answer; its lease is watched/, $offset{$_}, 15) foreach qw(n2 n3);
my %keys = $idle->etcd_keys;
ok(exists $keys{leader}, 'a silent leader is noticed while its lease lasts');

done_testing();
