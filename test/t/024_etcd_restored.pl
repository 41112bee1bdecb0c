# etcd is restored from a backup that is older than the present leadership: nobody
# leads beside it, and no term and no timeline is used again.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster  = ElectorCluster->new(nodes => 3, ttl => '2s')->build;
my $writer   = $cluster->start_writer;
my $probers  = $cluster->start_probers;
my $backup   = $cluster->base . '/backup';

is($cluster->leader, 'n1', 'n1 leads');
$cluster->etcdctl('snapshot', 'save', $backup);

# What the backup does not know: two more leaderships.
foreach my $next (qw(n2 n3))
{
	my $old = $cluster->leader;
	$cluster->psql($old, "SELECT elector_switchover('$next')");
	is($cluster->wait_for_leader(exclude => $old, timeout => 30), $next, "$next leads");
	$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $next } $cluster->nodes;
}
$writer->wait_for_acks(20);
my $term     = $cluster->term('n3');
my %timeline = map { $_->{timeline} => 1 } $cluster->query_history('n3');

$cluster->restore_etcd($backup);

$cluster->poll_until(sub { my $leader = $cluster->leader; defined $leader && $cluster->term($leader) > $term },
	60, 'a leader of a new term');
my $leader = $cluster->leader;
pass("$leader leads in a new term");
my $entry = ($cluster->query_history($leader))[-1];
ok(!$timeline{ $entry->{timeline} } || $leader eq 'n3', 'on a timeline of its own');
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
pass('the others follow');
is($cluster->check_end('restored', $writer, $probers), $leader, 'nothing is lost');

done_testing();
