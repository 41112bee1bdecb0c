# etcd has lost everything, and there is no backup: nobody leads, since it may be the
# wrong etcd, until an operator has the nodes forget, as docs/failures.md says.
use strict;
use warnings;

use ElectorCluster;
use File::Path qw(remove_tree);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $leader  = $cluster->leader;
my @others  = grep { $_ ne $leader } $cluster->nodes;
$cluster->psql($leader, 'INSERT INTO rows (n) VALUES (-1)');
my $newest = 'SELECT timeline FROM elector_history ORDER BY term DESC LIMIT 1';
my $timeline = $cluster->psql($leader, $newest);

$cluster->kill_etcd;
remove_tree($cluster->data('e1'));
$cluster->start_etcd;
$cluster->wait_for_status($_, $_, { state => 'etcd forgot' }, 60) foreach $cluster->nodes;
pass('all nodes remember what etcd does not know');
is($cluster->leader, undef, 'and none leads');

$cluster->stop($_) foreach @others, $leader;
foreach my $node ($cluster->nodes)
{
	unlink map { $cluster->data($node) . "/pg_elector/$_" } qw(state leadership todo);
}
$cluster->start($leader);
is($cluster->wait_for_leader(timeout => 30), $leader, 'the one that is started first leads');
$cluster->wait_for_writable($leader, 30);
cmp_ok($cluster->psql($leader, $newest), '>', $timeline, 'on a timeline of its own');
foreach my $node (@others)
{
	$cluster->start($node);
	is($cluster->wait_for_follower($node, 60), $leader, "$node follows it");
}
is($cluster->psql($_, 'SELECT count(*) FROM rows WHERE n = -1'), 1, "the row is on $_") foreach $cluster->nodes;
$cluster->remember;
$cluster->check_whole('in the end');
done_testing();
