# HAProxy with the configuration of contrib/haproxy: its check tells the leader
# from the followers, clients that know its address only go on after every
# change, and nobody is left on a machine that is silent.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(spawn);
use File::Basename qw(dirname);
use IO::Socket::UNIX;
use Test::More;

my $proxy   = '10.99.0.80';
my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s', settings => { superuser_reserved_connections => 80 })->build;
my $control = "$cluster->{sockets}/haproxy";
my $leader_port   = "host=$proxy port=5432 dbname=postgres user=app connect_timeout=3";
my $follower_port = "host=$proxy port=5433 dbname=postgres user=app connect_timeout=3";

# The configuration as it is shipped, with the addresses of this network.
sub start_haproxy
{
	my $file = $cluster->base . '/haproxy.cfg';
	my $text = read_file(dirname(abs_path($0)) . '/../../contrib/haproxy/haproxy.cfg');

	$text =~ s/\b10\.0\.0\.(\d):/$cluster->address("n$1") . ':'/ge;
	$text =~ s/^global$/global\n\tstats socket $control mode 600/m or die;
	write_file($file, $text);
	$cluster->network->add_host('proxy', $proxy);
	spawn({ log => $cluster->base . '/haproxy.log' }, $cluster->network->on('proxy'), 'haproxy', '-db', '-f', $file);
	return;
}

# What HAProxy thinks of the servers of a port: "n1 UP, n2 DOWN, ..."
sub servers
{
	my ($listener) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $control) or return '';
	my @servers;

	print $socket "show stat\n";
	foreach my $line (<$socket>)
	{
		my @fields = split /,/, $line;
		push @servers, "$fields[1] $fields[17]" if @fields > 17 && $fields[0] eq $listener && $fields[1] =~ /^n\d/;
	}
	return join ', ', @servers;
}

# Wait until only this node is taken for the leader, and the others, if they are
# there, for followers.
sub wait_for_servers
{
	my ($leader, @absent) = @_;
	my %absent = map { $_ => 1 } @absent;
	my $leaders   = join ', ', map { "$_ " . ($_ eq $leader ? 'UP' : 'DOWN') } $cluster->nodes;
	my $followers = join ', ', map { "$_ " . ($_ eq $leader || $absent{$_} ? 'DOWN' : 'UP') } $cluster->nodes;

	$cluster->poll_until(sub { servers('leader') eq $leaders && servers('followers') eq $followers },
		20, "HAProxy to take $leader for the leader");
	is($cluster->psql(undef, 'SELECT elector_is_leader()', conninfo => $leader_port), 't',
		"$leader leads: its port reaches it");
	is($cluster->psql(undef, 'SELECT elector_is_leader()', conninfo => $follower_port), 'f',
		"$leader leads: the followers' port does not");
	return;
}

$cluster->psql('n1', 'CREATE ROLE haproxy LOGIN');
$cluster->wait_for_follower($_) foreach qw(n2 n3);
start_haproxy();
wait_for_servers('n1');

# A statement's bound is longer than HAProxy takes to end a session.
my $writer  = $cluster->start_writer(conninfo => $leader_port, connect_ms => 3000, statement_ms => 10000);
my $probers = $cluster->start_probers;

# After a change: the client goes on, and so does HAProxy's view.
sub check_change
{
	my ($name, $old, $since, @absent) = @_;
	my $new = $cluster->wait_for_leader(exclude => $old);

	$writer->wait_for_acks(20);
	wait_for_servers($new, @absent);
	my @errors = grep { $_->{at} >= $since } $writer->errors;
	my $gap = $writer->longest_gap(since => $since);
	note("$name: $gap ms without an acknowledgement, " . @errors . ' errors');
	return ($new, $gap);
}

# All connections taken: a check is refused as others are, which must not end
# the sessions that are there.
my $before = $writer->errors;
my @sessions;
while (my $session = eval { $cluster->session('n1') }) { push @sessions, $session }
$cluster->poll_until(sub { servers('leader') =~ /n1 NOLB/ }, 20, 'HAProxy to find n1 full');
$writer->wait_for_acks(20);
is(scalar $writer->errors, $before, 'no free connection: sessions stay');
$_->stop foreach @sessions;
wait_for_servers('n1');

# Switchover.
my $session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
my $since = now_us();
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
my ($leader, $gap) = check_change('switchover', 'n1', $since);
is($leader, 'n2', 'switchover: the target leads');
cmp_ok($gap, '<', 4000, "switchover: no lease was waited for ($gap ms)");
ok(!$session->query('SELECT 1')->{alive}, 'switchover: sessions to the old leader have ended');
$cluster->wait_for_follower('n1');

# Failover: the postmaster is killed.
$session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
$since = now_us();
$cluster->kill_postmaster('n2');
($leader, $gap) = check_change('failover', 'n2', $since, 'n2');
cmp_ok($gap, '<', 4000, "failover: no lease was waited for ($gap ms)");
ok(!$session->query('SELECT 1')->{alive}, 'failover: sessions to the old leader have ended');
$cluster->wait_for_no_process('n2');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->remember('n2');
wait_for_servers($leader);

# The leader's machine is silent: HAProxy ends the sessions that wait for it.
$session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
$since = now_us();
$cluster->cut($leader);
$session->send('SELECT 1');
my $answer = $session->finish(30);
ok(!$answer->{alive}, 'silent machine: HAProxy ends a session that waits');
cmp_ok(now_us() - $since, '<', 6_000_000, 'silent machine: long before another leads');
(my $new, $gap) = check_change('silent machine', $leader, $since, $leader);
$cluster->heal($leader);
$cluster->wait_for_follower($leader);
wait_for_servers($new);

$cluster->check_end('HAProxy', $writer, $probers, losses => 1);

done_testing();
