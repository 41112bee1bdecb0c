# Placeholders, the history files that say nothing, as a power cut leaves them:
# empty, or with half a line.  None keeps a server from starting, and none that
# stays is short.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2)->build;
my $placeholder = "# pg_elector: no server was promoted to this timeline\n";

sub history_file
{
	my ($node, $timeline, $text) = @_;
	my $path = sprintf '%s/pg_wal/%08X.history', $cluster->data($node), $timeline;
	write_file($path, $text);
	chown $cluster->{uid}, $cluster->{gid}, $path;
	return $path;
}

# Next to the server's own timeline, at a start.
my $timeline = $cluster->status_of('n1', 'n2')->{timeline};
foreach my $case ([ 'empty', '' ], [ 'short', substr $placeholder, 0, 20 ], [ 'whole', $placeholder ])
{
	my ($name, $text) = @$case;
	$cluster->stop('n2');
	my $path = history_file('n2', $timeline + 1, $text);
	$cluster->start('n2');
	is($cluster->wait_for_follower('n2'), 'n1', "$name: the server starts, and follows");
	ok(!-e $path, "$name: it is removed");
}

# Below the timeline that is taken next.
my @paths = map { history_file('n2', @$_) } ([ 9, '' ], [ 10, substr $placeholder, 0, 20 ], [ 11, $placeholder ]);
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
is($cluster->wait_for_leader(exclude => 'n1', timeout => 30), 'n2', 'promoted: n2 leads');
is($cluster->psql('n2', q{SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int}), 12,
	'promoted: above them all');
is(read_file($_), $placeholder, 'promoted: ' . ($_ =~ m{([^/]+)$})[0] . ' is whole') foreach @paths;
is($cluster->wait_for_follower('n1'), 'n2', 'promoted: the other follows');
$cluster->restart($_) foreach qw(n1 n2);
$cluster->wait_for_leader(timeout => 40);
pass('and both start again');

done_testing();
