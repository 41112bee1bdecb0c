# A follower is promoted by hand: it cannot take a write, and is brought back.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');
my $timeline = $cluster->status_of('n1', 'n1')->{timeline};

foreach my $case (
	[ 'pg_promote()', 'n2', sub { $cluster->try_psql('n2', 'SELECT pg_promote(false)') } ],
	[ 'pg_ctl promote', 'n3', sub { $cluster->run_on('n3', {}, 'pg_ctl', '-D', $cluster->data('n3'), '-W', 'promote') } ])
{
	my ($name, $node, $promote) = @$case;
	my $since  = now_us();
	my $offset = $cluster->log_offset($node);

	# The function may be refused; else it has to leave the leader first, before
	# it can come back.
	my $result = $promote->();
	$cluster->wait_log($node, qr/started streaming WAL from primary/, $offset, 60) if $result->{ok};
	is($cluster->wait_for_follower($node, 60), 'n1', "$name: it is brought back");
	is($probers->first_ack(node => $node), undef, "$name: it took no write");
	is($cluster->term('n1'), $term, "$name: the leader stays");
	is(scalar(grep { $_->{node} eq 'n1' && $_->{at} >= $since } $probers->errors), 0, "$name: and goes on");
}

is($cluster->check_end('promoted by hand', $writer, $probers), 'n1', 'the leader is the same');
is($cluster->status_of('n1', 'n1')->{timeline}, $timeline, 'on the same timeline');

# What was promoted by hand can lead by election, on a timeline of its own.
$cluster->try_psql('n1', q{SELECT elector_switchover('n2')}, timeout => 30);
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'one of them is elected');
$cluster->check_whole('afterwards');
$cluster->check_history('afterwards');

# Promoted while nobody looks, it dies before anybody could bring it back; and the
# next leader gets the number that it took.
my $leader = $cluster->leader;
$cluster->stop_worker('n3');
$cluster->run_on('n3', {}, 'pg_ctl', '-D', $cluster->data('n3'), '-W', 'promote');
$cluster->poll_until(sub { ($cluster->try_psql('n3', 'SELECT pg_is_in_recovery()', user => 'postgres')->{out} // '') =~ /^f/ },
	30, 'n3 to be promoted');
$cluster->kill_all('n3');
$cluster->revive('n3');
$cluster->wait_for_no_process('n3');
my ($next) = grep { $_ ne 'n3' && $_ ne $leader } $cluster->nodes;
$cluster->psql($leader, "SELECT elector_switchover('$next')");
is($cluster->wait_for_leader(exclude => $leader, timeout => 30), $next, 'another leader is elected meanwhile');
$cluster->wait_for_follower($leader, 60);

my $offset = $cluster->log_offset('n3');
$cluster->start('n3');
$cluster->wait_log('n3', qr/ended as a primary on timeline \d+, to which no election had promoted it/, $offset, 30);
ok(1, 'it remembers what it was');
$cluster->wait_log('n3', qr/can only be cloned/, $offset, 60);
ok($cluster->log_since('n3', $offset) !~ /started streaming/, 'and does not follow with the same number of another history');

# A clone is whole again, and is not cloned twice.
$offset = $cluster->log_offset('n3');
$cluster->reload_line('n3', 'pg_elector.rejoin', 'clone');
$cluster->wait_log('n3', qr/started streaming WAL from primary/, $offset, 120);
is($cluster->wait_for_follower('n3', 60), $next, 'a clone follows');
is(scalar(() = $cluster->log_since('n3', $offset) =~ /data directory is ready to follow/g), 1, 'after one cloning');

done_testing();
