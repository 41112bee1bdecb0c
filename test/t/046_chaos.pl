# Randomized faults, for about two minutes: three nodes under `any 1`, then five under
# `zones 1`.  Every run has a fresh seed (CHAOS_SEED), which is printed and with which
# `make chaos` brings the same faults again.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use lib dirname(abs_path($0)) . '/../chaos';

use ElectorChaos;
use Test::More;

my $seed = $ENV{CHAOS_SEED} // time % 1000000;
my $seconds = $ENV{CHAOS_SECONDS} // 50;

foreach my $case ([ 3, 'any 1' ], [ 5, 'zones 1' ])
{
	my ($nodes, $policy) = @$case;
	diag("make chaos SEED=$seed NODES=$nodes POLICY='$policy'");
	my $chaos = ElectorChaos->new(nodes => $nodes, policy => $policy, seed => $seed);
	$chaos->run(seconds => $seconds);
	$chaos->cluster->teardown;
}
done_testing();
