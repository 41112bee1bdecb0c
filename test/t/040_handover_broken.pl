# A handover whose target dies or is cut off in the middle, at one moment after the
# other: the old leader or the best other node leads soon, and nothing is lost,
# asynchronous though the commits are.
use strict;
use warnings;

use ElectorCluster;
use Test::More;
use Time::HiRes qw(sleep);

my $cluster = ElectorCluster->new(nodes => 3, ttl => '5s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;

sub kill_target
{
	my ($target) = @_;
	while (my @pids = $cluster->pids($target)) { ElectorProcess::kill_and_wait('KILL', @pids) }
	$cluster->{node}{$target}{state} = 'stopped';
	return;
}

my %break = (
	'killed'           => [ \&kill_target, sub { $cluster->start($_[0]); $cluster->remember($_[0]) } ],
	'cut off'          => [ sub { $cluster->cut($_[0]) }, sub { $cluster->heal($_[0]) } ],
	'cut off from etcd' => [ sub { $cluster->cut($_[0], from => 'etcd') }, sub { $cluster->heal($_[0]) } ],
	'stopped'          => [ sub { $cluster->stop_all($_[0]) }, sub { $cluster->cont_all($_[0]) } ]);

# From before the stop of the old leader until after the promotion of the target.
foreach my $how (sort keys %break)
{
	foreach my $delay (0.02, 0.09, 0.15)
	{
		my ($do, $undo) = @{ $break{$how} };
		my $old = $cluster->wait_for_leader;
		my ($target, $other) = grep { $_ ne $old } $cluster->nodes;
		my $term = $cluster->term($old);
		my $what = "target $how after " . $delay * 1000 . ' ms';

		$writer->wait_for_acks(20);
		my $asked = $cluster->try_psql($other, "SELECT elector_switchover('$target', wait => false)");
		ok($asked->{ok}, "$what: asked") or diag($asked->{err});
		sleep $delay;    # the moment of the fault, no wait for anything
		$do->($target);

		# Who leads is open: the target, too, may have made it.
		my $leader = $cluster->poll_until(
			sub {
				my $found = $cluster->leader(exclude => $target) // return undef;
				my $check = $cluster->try_psql($found, "SELECT elector_switchover(dry_run => true)");
				return $check->{err} =~ /another change/ ? undef : $found;
			},
			30, "$what: a leader and no change under way");
		ok(defined $leader, "$what: $leader leads");
		$writer->wait_for_acks(20, 30);
		$undo->($target);
		$leader = $cluster->wait_for_leader(timeout => 30);
		$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
	}
}

$cluster->check_end('broken handovers', $writer, $probers);

my @timelines = map { $_->{timeline} } $cluster->query_history($cluster->wait_for_leader);
my %seen;
is(scalar(grep { $seen{$_}++ } @timelines), 0, 'no timeline was used twice');
done_testing();
