# pg_elector status: the cluster from a shell, with and without servers, within its
# bound, and with words that say what to do where it cannot tell.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command);
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, zones => { n3 => 'east' },
	settings => { 'pg_elector.durability' => 'any 1' })->build;
my @by_options = ('--etcd', $cluster->endpoints, '--cluster', 'orders');

sub status
{
	my ($host, @args) = @_;
	my $opts = ref $args[0] eq 'HASH' ? shift @args : {};
	my $since  = now();
	my $result = $cluster->run_on($host, $opts, 'pg_elector', 'status', @args);
	$result->{took} = now() - $since;
	$result->{code} = $result->{rc} >> 8;
	return $result;
}

sub row
{
	my ($result, $node) = @_;
	my ($line) = grep { /^ \Q$node\E / } split /\n/, $result->{out};
	return join '|', map { s/^\s+|\s+$//gr } split /\|/, $line // '';
}

$cluster->poll_until(sub { $cluster->has_durability('any 1') }, 30, 'any 1');
$cluster->poll_until(sub { status('n1', @by_options)->{out} =~ /any 1 of n1, n2, n3$/m }, 30, 'all three to count');

#
# A cluster that is well, from a node, from elsewhere, by the environment.
#
{
	my $result = status('n1', '-D', $cluster->data('n1'));
	is($result->{code}, 0, 'somebody leads') or diag($result->{err});
	is($result->{err}, '', 'and nothing is wrong');
	like($result->{out}, qr/^cluster: +orders, in etcd at http\S+$/m, 'the cluster');
	like($result->{out}, qr/^leader: +n1, in term \d+ on timeline \d+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d/m, 'the leader');
	like($result->{out}, qr/^durability: +any 1 of n1, n2, n3$/m, 'the rule');
	like(row($result, 'n1'), qr/^n1\|leader\|yes\|\d+ s\|yes\|100\|\|10\.99\.0\.11:5432$/, 'the row of the leader');
	like(row($result, 'n3'), qr/^n3\|follower\|yes\|\d+ s\|yes\|100\|east\|10\.99\.0\.13:5432$/, 'the row of a follower');

	is(status('client', @by_options)->{code}, 0, 'from where no server is');
	is(status('client', { env => { PG_ELECTOR_ETCD => $cluster->endpoints, PG_ELECTOR_CLUSTER => 'orders' } })->{code},
		0, 'by the environment');
	is(status('n2', { env => { PGDATA => $cluster->data('n2') } })->{code}, 0, 'by PGDATA');

	my $json = decode_json(status('client', @by_options, '--json')->{out});
	is($json->{leader}, 'n1', 'for programs: the leader');
	ok($json->{open} && !$json->{paused}, 'for programs: open, not paused');
	is(join(' ', map { "$_->{node}:" . ($_->{alive} ? 1 : 0) } @{ $json->{members} }), 'n1:1 n2:1 n3:1', 'for programs: the members');
}

# What an operator has set.
$cluster->psql('n1', q{SELECT elector_hold('nightly backup', '1 h')});
like(status('client', @by_options)->{out}, qr/^hold: +\d+ of n1 until .*: nightly backup$/m, 'a hold');
$cluster->psql('n1', q{SELECT elector_pause('new kernel')});
like(status('client', @by_options)->{out}, qr/^paused: +since .*, on n1: new kernel; elector_resume\(\) ends it$/m, 'a pause');
$cluster->psql('n1', 'SELECT elector_resume()');

#
# A node is dead; then all of them are.
#
$cluster->kill_all('n2');
$cluster->poll_until(sub { row(status('client', @by_options), 'n2') =~ /^n2\|\|no\|\|/ }, 20, 'n2 to be seen as dead');
pass('a dead node is not alive');
is(status('client', @by_options)->{code}, 0, 'and somebody leads');
$cluster->revive('n2');
$cluster->stop($_, mode => 'fast') foreach qw(n3 n1);
{
	my $result = status('n1', '-D', $cluster->data('n1'));
	is($result->{code}, 2, 'no server runs: nobody leads') or diag($result->{err});
	like($result->{out}, qr/^leader: +nobody; the last one was n1 in term \d+, which gave leadership up$/m, 'who was the last');
	like(row($result, $_), qr/^$_\|\|no\|\|yes/, "$_ is not alive") foreach qw(n1 n3);
	like($result->{err}, qr/hint: No member is alive: start the servers\./, 'and what to do');
	cmp_ok($result->{took}, '<', 5, 'soon');
}

#
# What cannot be told.
#
{
	my $result = status('client', '--etcd', $cluster->endpoints, '--cluster', 'invoices');
	is($result->{code}, 1, 'another cluster: an error');
	like($result->{err}, qr/error: etcd at \S+ knows no cluster "invoices"\n.*hint: Compare pg_elector\.cluster/s, 'which says so');

	$result = status('client');
	is($result->{code}, 1, 'nothing given: an error');
	like($result->{err}, qr/error: it is not known where etcd is\n.*hint: Name a node's data directory/s, 'which says what to give');

	$result = status('client', '-D', $cluster->base . '/nowhere');
	is($result->{code}, 1, 'no such directory: an error');
	like($result->{err}, qr/error: could not read the configuration of "\S+nowhere": /, 'which says so');

	$result = status('client', '--etc', 'x', '--bogus');
	is($result->{code}, 1, 'wrong options: an error');
	like($result->{err}, qr/Try "pg_elector --help"/, 'which says so');
}
my $silent = $cluster->start_silent('silent', 2379);
{
	my $result = status('client', '--etcd', "http://$silent:2379", '--cluster', 'orders', '--timeout', '2');
	is($result->{code}, 1, 'a silent etcd: an error');
	like($result->{err}, qr/error: could not read cluster "orders" from etcd at http\S+: \S/, 'which says so');
	cmp_ok($result->{took}, '<', 4, 'within its bound');
	$result = status('client', '--etcd', "http://$silent:2379," . $cluster->endpoints, '--cluster', 'orders');
	is($result->{code}, 2, 'a silent endpoint: the next one is asked') or diag($result->{err});
}
$cluster->stop_etcd;
{
	my $result = status('client', @by_options, '--timeout', '2');
	is($result->{code}, 1, 'no etcd: an error');
	like($result->{err}, qr/could not read cluster "orders" from etcd.*hint: Without etcd/s, 'which says so');
	cmp_ok($result->{took}, '<', 4, 'within its bound');
}

done_testing();
