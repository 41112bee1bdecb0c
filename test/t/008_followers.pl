# Faults at followers: nothing happens to the leader, and they follow again.  Then
# the choice between two of them.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');

# Runs the fault and its end; the leader must not notice.
sub unnoticed
{
	my ($name, $fault, $end) = @_;
	$writer->wait_for_acks(20);
	my $since = now_us();

	$fault->();
	# Long enough for a lease to end.
	my $until = now() + 3;
	$cluster->poll_until(sub { now() > $until }, 10, 'a lease to end');
	$end->();
	is($cluster->wait_for_follower($_), 'n1', "$name: $_ follows again") foreach qw(n2 n3);
	is($cluster->term('n1'), $term, "$name: the leader stays");
	my $gap = $writer->longest_gap(since => $since);
	cmp_ok($gap, '<', 1000, "$name: and goes on ($gap ms)");
	is(scalar(grep { $_->{node} eq 'n1' && $_->{at} >= $since } $probers->errors),
		0, "$name: not one probe was refused there");
	return;
}

unnoticed('killed', sub { $cluster->kill_all('n2') }, sub { $cluster->revive('n2'); $cluster->start('n2') });
unnoticed(
	'postmaster killed',
	sub { $cluster->kill_postmaster('n2'); $cluster->wait_for_no_process('n2') },
	sub { $cluster->start('n2') });
unnoticed('cut off', sub { $cluster->cut('n3') }, sub { $cluster->heal('n3') });
unnoticed('cut off from the leader', sub { $cluster->cut('n3', from => 'peers') }, sub { $cluster->heal('n3') });
unnoticed('paused', sub { $cluster->stop_all('n3') }, sub { $cluster->cont_all('n3') });
unnoticed('worker paused', sub { $cluster->stop_worker('n3') }, sub { $cluster->cont_worker('n3') });
unnoticed('restarted', sub { $cluster->restart('n3') }, sub { });
unnoticed(
	'both dead',
	sub { $cluster->kill_all($_) foreach qw(n2 n3) },
	sub { foreach (qw(n2 n3)) { $cluster->revive($_); $cluster->start($_) } });
$cluster->remember;
$cluster->check_end('followers', $writer, $probers);

# The one that has more leads: the other is cut off from the leader while rows
# are written, which the leader does not outlive.
my $more = $cluster->start_writer(start => 1_000_000);
$cluster->cut('n2', from => ['n1']);
$more->wait_for_acks(50);
$more->stop;
$cluster->wait_for_follower('n3');
cmp_ok(
	$cluster->psql('n2', 'SELECT max(n) FROM rows'), '<',
	$cluster->psql('n3', 'SELECT max(n) FROM rows'), 'one follower is behind');
$cluster->kill_postmaster('n1');
is($cluster->wait_for_leader(exclude => 'n1'), 'n3', 'the other one leads');
$cluster->heal('n2');
$cluster->wait_for_follower('n2');
$more->check_rows('n3', name => 'the better follower');

done_testing();
