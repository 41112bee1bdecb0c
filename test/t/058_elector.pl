# The elector is not the candidate.  A leader needs etcd itself, for its leadership hangs
# on its own lease there; but who is to lead need not be able to run the election.
#
# Two that may lead, of which one dies, and the other cannot reach a member that may have
# acknowledged commits: it cannot elect itself.  A node that never leads reaches all, and
# elects it.
use strict;
use warnings;

use ElectorCluster;
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 4, settings => { 'pg_elector.durability' => 'any 1' })->build;

$cluster->reload_line($_, 'pg_elector.candidate', 'off') foreach qw(n3 n4);
sub is_candidate { my ($node) = @_; my %keys = $cluster->etcd_keys; return decode_json($keys{"members/$node"})->{candidate} }

$cluster->poll_until(sub { !is_candidate('n3') && !is_candidate('n4') }, 10, 'n3 and n4 to be no candidates');
$cluster->poll_until(sub { $cluster->psql('n1', 'SHOW synchronous_standby_names') =~ /n2.*n3.*n4/ }, 30, 'the rule to count all');
my $writer = $cluster->start_writer;
$writer->wait_for_acks(20);
$writer->stop;
$cluster->wait_until_counts($_) foreach qw(n2 n3 n4);
$cluster->wait_for_follower($_) foreach qw(n2 n3 n4);

# n2 and n4 do not see each other, and both see n3 and etcd.
$cluster->cut('n2', from => ['n4']);
$cluster->wait_for_status('n2', 'n4', { state => 'unreachable' });
$cluster->wait_for_status('n4', 'n2', { state => 'unreachable' });

# While only n2 may run elections it waits for n4's commits.
$cluster->stop_worker($_) foreach qw(n3);
$cluster->kill_all('n1');
my $row = $cluster->wait_for_status('n2', 'n2', { state => 'commits missing' }, 30);
like($row->{detail}, qr/acknowledged commits may be on "n[34]"/, 'the candidate cannot elect itself: it waits for a member that it does not reach');
is($cluster->psql('n2', 'SELECT pg_is_in_recovery()'), 't', 'and does not lead');

# n3 can, and never leads itself.
$cluster->cont_worker('n3');
is($cluster->wait_for_leader(exclude => 'n1', timeout => 60), 'n2', 'a node that is no candidate elects it');
my @history = $cluster->query_history('n2');
is($history[-1]{elector}, 'n3', 'the elector is the one that reaches all');
is($history[-1]{leader},  'n2', 'and the leader another one');
is($cluster->psql($_, 'SELECT pg_is_in_recovery()'), 't', "$_ follows") foreach qw(n3 n4);
$writer->check_rows('n2', name => 'elected by another', losses => 0);

$cluster->heal('n2');
$cluster->revive('n1');
$cluster->start('n1');
$cluster->wait_for_follower($_) foreach qw(n1 n3 n4);

# One that may lead and does not reach etcd is passed over, by whoever runs the election:
# it could win no lease.
$cluster->reload_line('n3', 'pg_elector.candidate', 'on');
$cluster->poll_until(sub { is_candidate('n3') }, 10, 'n3 to be a candidate');
$cluster->wait_for_leader;
$cluster->cut($_, from => 'etcd') foreach qw(n1 n3);
$cluster->wait_for_status($_, $_, { state => 'no etcd' }, 30) foreach qw(n1 n3);
$cluster->kill_all('n2');
$row = $cluster->wait_for_status('n4', 'n4', { state => 'no candidate' }, 40);
ok($row, 'nobody who may lead reaches etcd: the one that does says that there is no candidate');
is($cluster->leader(exclude => 'n2'), undef, 'and nobody leads');
$cluster->heal('n3');
is($cluster->wait_for_leader(exclude => 'n2', timeout => 40), 'n3', 'one of them reaches etcd again, and leads');
$cluster->heal('n1');
$cluster->wait_for_follower($_) foreach qw(n1 n4);
$writer->check_rows('n3', name => 'in the end', losses => 0);

done_testing();
