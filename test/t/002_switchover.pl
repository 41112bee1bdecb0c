# Planned changes: asked for with and without a target, and by pg_ctl.  The
# lease is long, so that what waits for it shows.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');

# To a target, asked for on a third node.
my $since = now_us();
ok($cluster->try_psql('n3', q{SELECT elector_switchover('n2')}, timeout => 30)->{ok}, 'asked for on a follower');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'the target leads');
$writer->wait_for_acks(20);
my $gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 2000, "no lease was waited for ($gap ms)");
$cluster->wait_for_follower('n1');
is($cluster->term('n2'), $term + 1, 'the next term');
$cluster->check_whole('to a target');

# Without one, asked for on the leader, whose session may end by it.
$since = now_us();
$cluster->try_psql('n2', 'SELECT elector_switchover()', timeout => 30);
my $third = $cluster->wait_for_leader(exclude => 'n2');
$writer->wait_for_acks(20);
$gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 2000, "without a target: no lease was waited for ($gap ms)");
is($cluster->term($third), $term + 2, 'the next term');
$cluster->check_whole('without a target');

# What cannot be.
my $unknown = $cluster->try_psql($third, q{SELECT elector_switchover('nobody')}, timeout => 30);
ok(!$unknown->{ok}, 'to an unknown node: an error');
like($unknown->{err}, qr/nobody/, 'that names it');
$cluster->try_psql($third, "SELECT elector_switchover('$third')", timeout => 30);
my ($follower) = grep { $_ ne $third } $cluster->nodes;
$cluster->stop($follower);
ok(!$cluster->try_psql($third, "SELECT elector_switchover('$follower')", timeout => 30)->{ok},
	'to a node that is stopped: an error');
is($cluster->term($third), $term + 2, 'the leader has not changed');
$cluster->start($follower);
$cluster->wait_for_follower($follower);
$cluster->remember($follower);

# pg_ctl stop of the leader hands over, and ends the server.
$since = now_us();
$cluster->stop($third);
is($cluster->postmaster_pid($third), undef, 'pg_ctl stop stops the leader');
my $fourth = $cluster->wait_for_leader(exclude => $third);
$writer->wait_for_acks(20);
$gap = $writer->longest_gap(since => $since);
cmp_ok($gap, '<', 2000, "pg_ctl stop: no lease was waited for ($gap ms)");
$cluster->start($third);
$cluster->wait_for_follower($third);
$cluster->remember($third);

# pg_ctl restart is no other thing.
$cluster->restart($fourth);
$cluster->remember($fourth);
$cluster->wait_for_leader;

# Nothing is lost by any of these.
$cluster->check_end('planned changes', $writer, $probers);
my @history = $cluster->check_history('planned changes');
is($history[1]{leader}, 'n2', 'elector_history: the target');
ok(defined $history[1]{revoked} && $history[1]{revoked} ne '', 'elector_history: how it was revoked');

done_testing();
