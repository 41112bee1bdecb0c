# A node that is started under another address, or another name: the others follow it
# there, nobody else leads for that, and the former name is no member for whom anybody
# waits.
use strict;
use warnings;

use ElectorCluster;
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, settings => { 'pg_elector.durability' => 'any 1' })->build;

sub record { my ($name) = @_; my %keys = $cluster->etcd_keys; return $keys{$name} }
sub members { return join ' ', sort map { m{^members/(.*)} ? $1 : () } keys %{ { $cluster->etcd_keys } } }

sub counted
{
	my %keys   = $cluster->etcd_keys;
	my $record = decode_json($keys{durability} // '{"changing":true}');
	return $record->{changing} ? '' : join ' ', sort map { $_->{node} } @{ $record->{rule}{members} };
}

sub slots { my ($node) = @_; return $cluster->psql($node, q{SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots}) }

# Another address of the machine, which the node's own one is no more.
sub readdress
{
	my ($node, $address) = @_;
	my $net = $cluster->network;
	my $old = $net->address($node);
	$net->_ip('-n', $net->namespace($node), 'addr', 'del', "$old/16", 'dev', 'eth0');
	$net->_ip('-n', $net->namespace($node), 'addr', 'add', "$address/16", 'dev', 'eth0');
	$net->{hosts}{$node} = $address;
	$cluster->set_line($node, 'pg_elector.conninfo', $cluster->node_conninfo($node));
	return;
}

$cluster->poll_until(sub { counted() eq 'n1 n2 n3' }, 30, 'the rule to count all');
my $probers = $cluster->start_probers;
my $term = $cluster->term('n1');

#
# A follower with another address.
#
$cluster->stop('n2');
readdress('n2', '10.99.0.42');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->wait_for_status('n3', 'n2', { state => 'streaming' });
is($cluster->term('n1'), $term, 'a follower with another address: nobody else leads');
my $member = decode_json(record('members/n2'));
like($member->{conninfo}, qr/host=10\.99\.0\.42 /, 'a follower with another address: etcd has it');
is(members(), 'n1 n2 n3', 'a follower with another address: the members are the same');

# It can lead there, and the others follow.
$cluster->psql('n3', q{SELECT elector_switchover('n2')}, timeout => 60);
is($cluster->wait_for_leader, 'n2', 'with another address: it can lead');
$cluster->wait_for_follower($_) foreach qw(n1 n3);
$cluster->psql('n3', q{SELECT elector_switchover('n1')}, timeout => 60);
is($cluster->wait_for_leader, 'n1', 'with another address: and be followed no more');
$cluster->wait_for_follower($_) foreach qw(n2 n3);
$term = $cluster->term('n1');

#
# The leader with another address, while the cluster is paused so that it stays: it leads
# again, in the next term, and nobody else in between.
#
$cluster->psql('n1', q{SELECT elector_pause('moving n1')});
$cluster->stop('n1');
readdress('n1', '10.99.0.41');
$cluster->start('n1');
is($cluster->wait_for_leader(timeout => 30), 'n1', 'the leader with another address leads again');
$cluster->psql('n1', 'SELECT elector_resume()');
$cluster->wait_for_follower($_) foreach qw(n2 n3);
my @history = $cluster->query_history('n1');
is(join(' ', map { $_->{leader} } grep { $_->{term} > $term } @history), 'n1', 'and nobody else has led meanwhile');
like($cluster->psql('n2', 'SHOW primary_conninfo'), qr/host='10\.99\.0\.41'/, 'the followers stream from there');

# Clients know the new addresses from here on.
my $writer = $cluster->start_writer;
$writer->wait_for_acks(10);
$term = $cluster->term('n1');

#
# A follower with another name.
#
$cluster->stop('n2');
$cluster->set_line('n2', 'pg_elector.node', 'n9');
my $offset = $cluster->log_offset('n2');
$cluster->start('n2');
$cluster->wait_log('n2', qr/LOG:  node "n2" is called "n9" from now on/, $offset);
$cluster->wait_for_status('n1', 'n9', { role => 'follower', state => 'streaming' });
$cluster->poll_until(sub { members() eq 'n1 n3 n9' }, 30, 'the former name to be forgotten');
pass('a follower with another name: the former one is no member any more');
$cluster->poll_until(sub { counted() eq 'n1 n3 n9' }, 30, 'the rule to count it by its new name');
pass('a follower with another name: the durability rule counts it by that');
$cluster->poll_until(sub { slots('n1') eq 'pg_elector_n3 pg_elector_n9' && slots('n3') eq 'pg_elector_n1 pg_elector_n9' },
	30, 'the slots to be those of the new name');
pass('a follower with another name: so do the slots');
is($cluster->term('n1'), $term, 'a follower with another name: nobody else leads');
unlike(read_file($cluster->data('n2') . '/pg_elector/state'), qr/^former = ./m, 'and it has forgotten that itself');
$writer->wait_for_acks(10);

# The leader dies: an election waits for nobody, and the renamed one can win it.
$cluster->reload_line('n3', 'pg_elector.candidate', 'off');
$cluster->poll_until(sub { !decode_json(record('members/n3'))->{candidate} }, 10, 'n3 to be no candidate');
$cluster->kill_all('n1');
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'the leader dies: the renamed node leads');
@history = $cluster->query_history('n2');
is($history[-1]{leader}, 'n9', 'by its new name');
$cluster->reload_line('n3', 'pg_elector.candidate', 'on');
$cluster->revive('n1');
$cluster->start('n1');
$cluster->wait_for_status('n2', 'n1', { state => 'streaming' }, 60);

#
# A node that crashed, and is started under another name: the former one's lease has to
# end first, and nothing else.
#
$cluster->kill_postmaster('n3');
$cluster->wait_for_no_process('n3');
$cluster->set_line('n3', 'pg_elector.node', 'n8');
$cluster->start('n3');
$cluster->wait_for_status('n2', 'n8', { role => 'follower', state => 'streaming' });
$cluster->poll_until(sub { members() eq 'n1 n8 n9' }, 40, 'the former name to be forgotten');
pass('renamed after a crash: the former name is forgotten');

# And back.
$cluster->stop('n3');
$cluster->set_line('n3', 'pg_elector.node', 'n3');
$cluster->start('n3');
$cluster->poll_until(sub { members() eq 'n1 n3 n9' }, 40, 'the former name to be forgotten');
pass('renamed back: so it is');

#
# A copy of a directory is not renamed by its other name: it is refused, as before.
#
{
	$cluster->stop('n3');
	$cluster->must_run_as_user('n3', 'cp', '-a', $cluster->data('n3'), $cluster->data('n7'));
	$cluster->start('n3');
	$cluster->_declare_node('n7');
	$cluster->set_line('n7', $_->[0], $_->[1]) foreach ([ 'pg_elector.node', 'n7' ],
		[ 'pg_elector.conninfo', $cluster->node_conninfo('n7') ], [ unix_socket_directories => "$cluster->{sockets}/n7" ]);
	ok(!$cluster->start('n7', may_fail => 1)->{ok}, 'a copy under another name is refused');
	like($cluster->log_since('n7', 0), qr/FATAL:  data directory "\S+n7" is a copy of node "n3", and not "n7"/, 'which says so');
}
$cluster->poll_until(sub { members() eq 'n1 n3 n9' }, 20, 'the members to be the same');
$writer->wait_for_acks(10);
$writer->stop;
$probers->stop;
$probers->check('renamed');
$cluster->poll_until(sub { $cluster->psql('n2', q{SELECT count(*) FROM elector_status WHERE state = 'streaming'}) == 2 }, 40, 'all to follow');
$writer->check_rows('n2', name => 'renamed');

done_testing();
