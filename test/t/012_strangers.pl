# Who does not belong: a second server with a node's name, a server of another
# system identifier.  Refused with a clear error; the cluster is untouched.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');
my @members = ('n1', 'n2');

my $since = now_us();

# Copies of the cluster under the names of its nodes.
foreach my $case ([ 'n7', 'n2' ], [ 'n8', 'n1' ])
{
	my ($node, $name) = @$case;
	my %before = $cluster->etcd_keys;

	$cluster->add_node($node, from => 'n1', name => $name);
	$cluster->start($node, may_fail => 1);
	$cluster->wait_log($node, qr/(?:WARNING|ERROR|FATAL|LOG):  [^\n]*"$name"[^\n]*(?:already|another|taken|in use)/);
	pass("second $name: the log says that the name is taken");
	isnt(($cluster->ask($node, 'INSERT INTO rows (n) VALUES (-1)'))[0], 'ok', "second $name: it takes no write");

	my %after = $cluster->etcd_keys;
	is($after{"members/$name"}, $before{"members/$name"}, "second $name: the member is the first one");
	is($after{"alive/$name"}, $before{"alive/$name"}, "second $name: and is the one that is alive");
	$cluster->stop($node, may_fail => 1, mode => 'immediate');
}

# A cluster of its own that was given this cluster's name.
$cluster->init_first('n9');
$cluster->start('n9', may_fail => 1);
$cluster->wait_log('n9', qr/system identifier/);
pass('another system: the log names the system identifier');
isnt(($cluster->ask('n9', 'SELECT pg_current_xact_id()', user => 'postgres'))[0], 'ok', 'another system: it takes no write');
ok(!exists { $cluster->etcd_keys }->{'members/n9'}, 'another system: it is no member');
$cluster->stop('n9', may_fail => 1, mode => 'immediate');

# The cluster has not noticed.
$cluster->{node_list} = \@members;
is($cluster->term('n1'), $term, 'the leader stays');
is(join(' ', map { $_->{node} } $cluster->query_status('n1')), "@members", 'the members are the same');
is(scalar(grep { $_->{node} eq 'n1' && $_->{at} >= $since } $probers->errors), 0, 'not one probe was refused');
$cluster->check_end('strangers', $writer, $probers);

done_testing();
