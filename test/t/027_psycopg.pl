# An application in Python (psycopg2) with all hosts in its connection string and
# a loop that tries again: it goes on after every change, and with the durability
# policy "any 1" no row that it was told of is missing, and none is there twice.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(process_alive);
use File::Basename qw(dirname);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '5s')->build;
$cluster->psql('n1', 'ALTER TABLE rows ADD PRIMARY KEY (n)');
$cluster->reload_line($_, 'pg_elector.durability', 'any 1') foreach $cluster->nodes;
$cluster->poll_until(
	sub { $cluster->psql('n1', q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'}) == 2 },
	20, 'both followers to be synchronous');
$cluster->remember;

my $writer = $cluster->start_writer(
	program  => [ '/usr/bin/python3', dirname(abs_path($0)) . '/../kit/application.py' ],
	conninfo => $cluster->conninfo_all . ' tcp_user_timeout=2000 keepalives_idle=1 keepalives_interval=1');
my $probers = $cluster->start_probers;
my ($application) = @{ $writer->{pids} };

sub check_change
{
	my ($name, $old, $since) = @_;
	my $new = $cluster->wait_for_leader(exclude => $old, timeout => 30);

	$writer->wait_for_acks(20);
	is(($writer->acks)[-1]{host}, $cluster->address($new), "$name: it writes to $new");
	my $gap = $writer->longest_gap(since => $since);
	my %codes = map { $_->{sqlstate} => 1 } grep { $_->{at} >= $since } $writer->errors;
	cmp_ok(scalar keys %codes, '>', 0, "$name: it saw an error (" . join(' ', sort keys %codes) . ')');
	note("$name: $gap ms without an acknowledgement");
	return ($new, $gap);
}

my $since = now_us();
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
my ($leader, $gap) = check_change('switchover', 'n1', $since);
is($leader, 'n2', 'switchover: the target leads');
cmp_ok($gap, '<', 4000, "switchover: no lease was waited for ($gap ms)");
$cluster->wait_for_follower('n1');

$since = now_us();
$cluster->kill_postmaster('n2');
($leader, $gap) = check_change('failover', 'n2', $since);
cmp_ok($gap, '<', 4000, "failover: no lease was waited for ($gap ms)");
$cluster->wait_for_no_process('n2');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->remember('n2');

# Nobody tells it that this connection is dead, but its own time-out does.
$since = now_us();
$cluster->cut($leader);
check_change('silent machine', $leader, $since);
$cluster->heal($leader);
$cluster->wait_for_follower($leader);

ok(process_alive($application), 'it is still the same process');
$cluster->check_end('psycopg', $writer, $probers);

done_testing();
