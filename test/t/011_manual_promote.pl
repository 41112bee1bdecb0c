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

done_testing();
