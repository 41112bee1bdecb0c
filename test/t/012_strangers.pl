# Who does not belong: a second server with a node's name, an image of the leader,
# a server of another system identifier.  Refused with a clear error; the cluster
# is untouched.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(must_run);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2)->build;

# What a snapshot of the leader's disk has: everything, the leadership included.
# Nothing writes while it is taken.
$cluster->psql('n1', 'CHECKPOINT');
must_run({}, 'cp', '-a', $cluster->data('n1'), $cluster->data('n6'));

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

# The image comes up on another machine, which shows by its boot only, and goes
# down again: the leadership it remembers is not its own.
{
	my $image = $cluster->data('n6');
	my %before = $cluster->etcd_keys;

	ok(-e "$image/pg_elector/leadership", 'image: it remembers a leadership');
	unlink "$image/postmaster.pid";
	$cluster->_declare_node('n6');
	$cluster->set_line('n6', 'unix_socket_directories', "$cluster->{sockets}/n6");
	my $inode = (stat $image)[1];
	write_file("$image/pg_elector/state", read_file("$image/pg_elector/state")
		  =~ s/^inode = .*/inode = $inode/mr =~ s/^boot_id = .*/boot_id = another/mr);
	$cluster->start('n6');
	$cluster->wait_log('n6', qr/WARNING:  [^\n]*"n1" is refused/);
	pass('image: the log says that it is refused');
	foreach my $mode ('immediate', 'fast')
	{
		$cluster->stop('n6', mode => $mode);
		my %after = $cluster->etcd_keys;
		is($after{leader}, $before{leader}, "image, $mode stop: the leader stays");
		is($after{term}, $before{term}, "image, $mode stop: nobody has released the term");
		$cluster->start('n6') if $mode eq 'immediate';
	}
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
