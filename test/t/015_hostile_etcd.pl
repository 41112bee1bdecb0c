# What comes from etcd is not trusted: garbage in the cluster's keys is reported
# and ignored, and never a crash.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
$cluster->try_psql('n1', q{SELECT elector_switchover('n2')}, timeout => 30);
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'a cluster with a history');
$cluster->wait_for_follower($_) foreach qw(n1 n3);

my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my %worker  = map { $_ => $cluster->worker_pid($_) } $cluster->nodes;
my %postmaster = map { $_ => $cluster->postmaster_pid($_) } $cluster->nodes;
my $term    = $cluster->term('n2');

my %garbage = (
	'empty'            => '',
	'truncated'        => '{"node":"n1","term":1',
	'truncated string' => '{"node":"n',
	'null'             => 'null',
	'an array'         => '[1,2,3]',
	'a string'         => '"n1"',
	'another program'  => '<html><body>503</body></html>',
	'wrong types'      => '{"node":1,"term":"one","leader":{},"timeline":[],"lsn":true,"conninfo":null,"instance":7,"system":[]}',
	'negative'         => '{"node":"n1","leader":"n1","term":-1,"timeline":-1,"lsn":"-1/0","priority":-99999999999}',
	'absurd numbers'   => '{"node":"n1","leader":"n1","term":1e308,"timeline":99999999999999999999,"lsn":"FFFFFFFFF/FFFFFFFFF","priority":1e400}',
	'too large'        => '{"node":"n1","leader":"n1","term":18446744073709551616,"timeline":4294967296}',
	'not UTF-8'        => "{\"node\":\"\xff\xfe\"}",
	'control characters' => "{\"node\":\"a\\u0000b\\n\\u001b[31m\",\"conninfo\":\"host=\\u0000\"}",
	'bad connection string' => '{"node":"n1","conninfo":"nonsense=1 password=hush"}',
	'deep'             => ('[' x 20000),
	'huge'             => '{"node":"' . ('x' x 1_000_000) . '"}',
);

sub put
{
	my ($key, $value, @options) = @_;
	# By standard input, which takes any length and any byte.
	$cluster->etcdctl({ stdin => $value eq '' ? "\n" : $value }, 'put', @options, $cluster->prefix . $key);
	return;
}

sub alive
{
	my ($name) = @_;
	foreach my $node ($cluster->nodes)
	{
		is($cluster->postmaster_pid($node), $postmaster{$node}, "$name: $node is the same process");
		is($cluster->worker_pid($node), $worker{$node}, "$name: so is its elector");
	}
	return;
}

# Keys that stay: what is in them for the moment changes nothing.
my %keys = $cluster->etcd_keys;
foreach my $key ((grep { !m{^(?:leader|election|alive/)} } sort keys %keys),
	qw(members/stranger alive/stranger history/99 history/x durability settings nonsense))
{
	my %offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
	foreach my $name (sort keys %garbage) { put($key, $garbage{$name}) }
	# A key that is not read is nobody's business; of the others, the leader says
	# something.
	$cluster->wait_log('n2', qr/\Q$key\E/, $offset{n2}) if $key !~ m{^(?:nonsense|durability|settings|alive/)};
	if (defined $keys{$key}) { put($key, $keys{$key}) }
	else { $cluster->etcdctl('del', $cluster->prefix . $key) }
	$probers->wait_for_ack('n2');
	is($cluster->term('n2'), $term, "garbage in $key: the leader stays");
	unlike($cluster->log_since('n2', $offset{n2}), qr/hush/, "garbage in $key: no password in the log");
	unlike($cluster->log_since('n2', $offset{n2}), qr/[\x00-\x08\x0b-\x1f]/, "garbage in $key: no control character in the log");
}
alive('keys that stay');
is(scalar(grep { $_->{node} eq 'n2' && $_->{sqlstate} ne '00000' } $probers->errors), 0, 'not one probe was refused');

# Many keys, and long names.
put("members/m$_", '{}') foreach 1 .. 200;
put('members/' . ('x' x 5000), '{}');
put('members/../../x', '{}');
put("members/a\nb", '{}');
$probers->wait_for_ack('n2');
is($cluster->term('n2'), $term, 'many strange members: the leader stays');
$cluster->etcdctl('del', '--prefix', $cluster->prefix . "members/$_") foreach ('m', 'x', '..', 'a');
alive('many strange members');

# A request nobody has made in this term.
put('request', $_) foreach ('{"target":"n1","term":999}', '{"target":"nobody"}', '{}');
$probers->wait_for_ack('n2');
is($cluster->term('n2'), $term, 'a foreign request: the leader stays');
$cluster->etcdctl('del', $cluster->prefix . 'request');

# The keys on leases, one's own leadership among them: it may end by that, but a
# leader there will be, without help.
foreach my $key (sort grep { m{^(?:leader|alive/)} } keys %keys)
{
	foreach my $name ('truncated', 'wrong types', 'absurd numbers', 'huge')
	{
		put($key, $garbage{$name}, '--ignore-lease') if exists { $cluster->etcd_keys }->{$key};
	}
	$cluster->etcdctl('del', $cluster->prefix . $key);
	my $leader = $cluster->wait_for_leader(timeout => 20);
	$probers->wait_for_ack($leader);
	pass("garbage in $key, then gone: $leader leads");
}
# A demotion makes a new worker, in the same postmaster process.
is($cluster->postmaster_pid($_), $postmaster{$_}, "$_ is the same process") foreach $cluster->nodes;
foreach my $node ($cluster->nodes)
{
	unlike($cluster->log_since($node), qr/terminated by signal|PANIC|TRAP:|segmentation/i, "no crash in the log of $node");
}

$cluster->check_end('hostile etcd', $writer, $probers, losses => 1);
my $leader = $cluster->leader;
my ($other) = grep { $_ ne $leader } $cluster->nodes;
$cluster->try_psql($leader, "SELECT elector_switchover('$other')", timeout => 30);
is($cluster->wait_for_leader(exclude => $leader), $other, 'afterwards, a planned change');

done_testing();
