# Under a supervisor that is told when the server is ready (systemd, Type=notify),
# and that starts it again when it ends with status 75: the server does not come
# back by itself, but ends with that status whenever it is not to stay down.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(spawn process_alive);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2)->build;
my $writer  = $cluster->start_writer;
my $log     = $cluster->base . '/supervisor.log';

# The supervisor of a node; its log has the exit statuses.
sub supervise
{
	my ($node) = @_;
	my ($postgres, $data) = ($cluster->bindir . '/postgres', $cluster->data($node));

	$cluster->stop($node);
	write_file($log, '');
	chown $cluster->{uid}, $cluster->{gid}, $log;
	my $pid = spawn(
		{ log => $cluster->log($node), env => { NOTIFY_SOCKET => $cluster->base . '/notify', LC_ALL => 'C' } },
		$cluster->as_user($node), '/bin/sh', '-c',
		"while :; do $postgres -D $data -c work_mem=5MB; status=\$?; echo \$status >> $log; [ \$status = 75 ] || exit; done");
	$cluster->{node}{$node}{state} = 'running';
	return $pid;
}

my $supervisor = supervise('n2');
is($cluster->wait_for_follower('n2'), 'n1', 'supervised: n2 follows');

# It leads, and hands over.
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'handover: n2 leads');
$cluster->wait_for_follower('n1');
is(read_file($log), '', 'handover: it did not end for that');
$cluster->psql('n2', q{SELECT elector_switchover('n1')});
is($cluster->wait_for_leader(exclude => 'n2', timeout => 30), 'n1', 'handover: n1 leads');
is($cluster->wait_for_follower('n2'), 'n1', 'handover: n2 is back, and follows');
is(read_file($log), "75\n", 'handover: it ended with status 75');

# It is promoted by hand, and has to be rewound.
$cluster->try_psql('n2', 'SELECT pg_promote(false)');
$cluster->poll_until(sub { read_file($log) =~ /^75\n75\n75\n/ }, 60, 'the server to end twice');
is($cluster->wait_for_follower('n2', 60), 'n1', 'promoted by hand: n2 is back, and follows');

# It is stopped.
$cluster->stop('n2');
$cluster->poll_until(sub { !process_alive($supervisor) }, 20, 'the supervisor to end');
is(read_file($log), "75\n75\n75\n0\n", 'stopped: it ended with status 0, and stays down');
$writer->wait_for_acks(10);
$writer->stop;
$writer->check_rows('n1', name => 'supervised');

done_testing();
