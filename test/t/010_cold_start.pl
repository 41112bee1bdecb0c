# All nodes are down, and start in any order: the last leader leads again.  When
# it stays away, another leads after a bound, and the history says what that
# may have cost.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $wait    = 5;
my $cluster = ElectorCluster->new(nodes => 3, settings => { 'pg_elector.cold_start_wait' => "${wait}s" })->build;
my $writer  = $cluster->start_writer;
$writer->wait_for_acks(50);
$writer->stop;
$cluster->wait_for_follower($_) foreach qw(n2 n3);

# Stopped in order: followers, then the leader.
$cluster->stop($_) foreach qw(n2 n3 n1);
$cluster->start($_, no_wait => 1) foreach qw(n3 n2 n1);
is($cluster->wait_for_leader(timeout => 30), 'n1', 'stopped, started: the last leader leads again');
$cluster->remember;
$cluster->check_whole('stopped, started');
$writer->check_rows('n1');

# All dead at once, as in a power cut, etcd too.
$cluster->kill_all($_) foreach $cluster->nodes;
$cluster->kill_etcd;
$cluster->start_etcd;
$cluster->revive($_) foreach $cluster->nodes;
$cluster->start($_, no_wait => 1) foreach qw(n2 n3 n1);
is($cluster->wait_for_leader(timeout => 30), 'n1', 'power cut: the last leader leads again');
$cluster->remember;
$cluster->check_whole('power cut');
$writer->check_rows('n1');

# The last leader stays away, with rows that only it has.
$cluster->stop($_) foreach qw(n2 n3);
is($cluster->psql('n1', 'INSERT INTO rows (n) VALUES (-1) RETURNING n'), -1, 'a row that only the leader has');
$cluster->stop('n1');
my $started = now();
$cluster->start($_) foreach qw(n2 n3);
my $new = $cluster->wait_for_leader(exclude => 'n1', timeout => 30);
cmp_ok(now() - $started, '>', $wait - 0.5, 'another leads, not before the bound');
my @history = $cluster->check_history('cold start', $new);
like($history[-1]{note}, qr/rows may be missing/, 'the history says that rows may be missing');
is($cluster->psql($new, 'INSERT INTO rows (n) VALUES (-2) RETURNING n'), -2, 'it takes writes');

$cluster->start('n1');
is($cluster->wait_for_follower('n1'), $new, 'back, the old leader follows');
is($cluster->psql('n1', 'SELECT string_agg(n::text, \' \') FROM rows WHERE n < 0'), -2, 'without its own row');
$cluster->remember;
$cluster->check_whole('cold start');

done_testing();
