# The leader's network is cut: from everything, from etcd only, and one way.  Its
# gate is closed before another opens; healed, it is rewound and follows, in the
# same process, and the rows that only it had are gone.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;

# From everything.
{
	my $old     = $cluster->leader;
	my $session = $cluster->session($old);
	my $term    = $cluster->term($old);

	$cluster->cut($old);
	my $since = now_us();
	ok($session->query('INSERT INTO rows (n) VALUES (-1)')->{ok}, 'a row that only the old leader has');

	my $refused = $probers->wait_for_close($old, $since);
	ok($refused, 'open sessions there are refused');
	ok($probers->wait_for_error($old, '57P03', 'connect', $since), 'new ones 57P03');
	my $write = $session->query('INSERT INTO rows (n) VALUES (-2)');
	is($write->{sqlstate}, '25006', 'a write in a session that stays');
	my $read = $session->query('SELECT count(*) FROM rows');
	ok(!$read->{ok}, 'a read there is refused, too');

	my $new = $cluster->wait_for_leader(exclude => $old);
	my $ack = $probers->wait_for_ack($new);
	my $first = $probers->first_ack(node => $new, since => $since);
	my $last = $probers->last_ack($old, until => $first->{acked});
	cmp_ok($last->{acked}, '<', $first->{acked}, 'its gate was closed before another opened');
	is($cluster->term($new), $term + 1, 'the next term');
	$writer->wait_for_acks(10);

	# From here on, whoever gets an answer from it must not see the ghost.
	$cluster->heal($old);
	my ($asked, $ghosts) = (0, 0);
	$cluster->poll_until(
		sub {
			my ($state, $count) = $cluster->ask($old, 'SELECT count(*) FROM rows WHERE n < 0');
			if ($state eq 'ok') { $asked++; $ghosts++ if $count > 0 }
			my $row = $cluster->status_of($new, $old);
			return $asked && $row && $row->{role} eq 'follower' && $row->{state} eq 'streaming';
		},
		30, "$old to follow $new");
	is($ghosts, 0, "the row that only it had is gone in all $asked reads");
	$cluster->check_whole('cut from everything');
	$writer->wait_for_acks(10);
}

# From etcd only: it is alive, and the winner fences it.
foreach my $case (
	[ 'etcd, silent',   from => 'etcd' ],
	[ 'etcd, refused',  from => 'etcd', refuse    => 1 ],
	[ 'etcd, one way',  from => 'etcd', direction => 'in' ],
	[ 'all, one way',   from => 'all',  direction => 'out' ])
{
	my ($name, %cut) = @$case;
	my $old   = $cluster->wait_for_leader;
	my $since = now_us();
	$cluster->cut($old, %cut);
	my $new = $cluster->wait_for_leader(exclude => $old);
	$probers->wait_for_ack($new);
	my $first = $probers->first_ack(node => $new, since => $since);
	my $last = $probers->last_ack($old, until => $first->{acked});
	cmp_ok($last->{acked}, '<', $first->{acked}, "$name: its gate was closed before another opened");
	$cluster->heal($old);
	is($cluster->wait_for_follower($old), $new, "$name: healed, it follows");
	$cluster->check_whole($name);
	$writer->wait_for_acks(10);
}

$cluster->check_end('cut off', $writer, $probers, losses => 1);
$cluster->check_history('cut off');

done_testing();
