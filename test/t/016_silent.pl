# An etcd endpoint and a peer that accept connections and answer nothing: the
# leases are renewed in time, and a failover does not wait for them.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $ttl     = 3;
my $cluster = ElectorCluster->new(nodes => 3, ttl => "${ttl}s");
my $silent  = $cluster->start_silent('s1', 2379);
$cluster->add_endpoint("http://$silent:2379");
$cluster->build;

my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');

# A member that is only an address, and a follower that stands still.
my %keys = $cluster->etcd_keys;
my $peer = $cluster->start_silent('s2', 5432);
my $member = $keys{'members/n3'} =~ s/\bn3\b/n5/gr;
my $address = $cluster->address('n3');
$member =~ s/\Q$address\E/$peer/g;
$cluster->etcdctl('put', $cluster->prefix . 'members/n5', $member);
$cluster->stop_all('n3');

my $since = now_us();
my $least = 1e9;
$cluster->poll_until(
	sub {
		my $row = $cluster->status_of('n1', 'n1');
		$least = $row->{lease_ms_left} if $row && $row->{lease_ms_left} < $least;
		return now_us() - $since > 3e6 * $ttl;
	},
	60, 'three leases to end');
cmp_ok($least, '>', $ttl * 1000 / 4, "the lease was always renewed in time (at least $least ms were left)");
is($cluster->term('n1'), $term, 'the leader stays');
is(scalar(grep { $_->{node} eq 'n1' && $_->{at} >= $since } $probers->errors), 0, 'not one probe was refused');

# A failover in this company.
$since = now_us();
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'the one that answers leads');
$writer->wait_for_acks(20);
my $gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 3000, "without waiting for those who do not ($gap ms)");

$cluster->cont_all('n3');
$cluster->etcdctl('del', $cluster->prefix . 'members/n5');
is($cluster->wait_for_follower('n3'), 'n2', 'going on, the paused one follows');
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
$cluster->remember('n1');
$cluster->check_end('silence', $writer, $probers, losses => 1);

done_testing();
