# SIGKILL of the leader's postmaster: its worker closes the gate and gives the
# leadership up; another leads at once, not a lease later (which is long here).
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');
my $session = $cluster->session('n1');

my $since = now_us();
$cluster->kill_postmaster('n1');
my $new = $cluster->wait_for_leader(exclude => 'n1');
$writer->wait_for_acks(20);
my $gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 2000, "another leads at once ($gap ms)");
is($cluster->term($new), $term + 1, 'in the next term');

# An orphaned backend may live on, but takes no write.
my $orphan = $session->query('INSERT INTO rows (n) VALUES (-1)', 5);
ok(!$orphan->{ok}, 'an orphaned session takes no write');

# Started again, it follows.
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
is($cluster->wait_for_follower('n1'), $new, 'started again, it follows');
is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n = -1'), 0, 'without the orphan\'s row');
is_deeply({ $cluster->configuration_files('n1') }, $cluster->{before}{n1}{files}, 'with its own configuration');
$cluster->remember('n1');

$cluster->check_end('killed postmaster', $writer, $probers, losses => 1);
my @history = $cluster->check_history('killed postmaster');
is(scalar @history, 2, 'elector_history: one more leadership');
is($history[-1]{leader}, $new, 'elector_history: of the new leader');

done_testing();
