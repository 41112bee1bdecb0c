# docs/tutorial.md: every command of it, as it stands there, on machines as it names
# them.  A block is ```sh WHERE; one that fails fails the test.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorNetwork;
use ElectorProcess qw(run_command must_run read_file);
use File::Basename qw(dirname);
use POSIX qw(WNOHANG);
use Test::More;

my $page  = dirname(abs_path(__FILE__)) . '/../../docs/tutorial.md';
my @hosts = qw(n1 n2 n3);

# The kit's cluster lends its directory, its user and its end; the machines are ours.
my $cluster = ElectorCluster->new(nodes => 0, etcd => 0);
my $net     = $cluster->network;
foreach my $host (@hosts)
{
	my $home = $cluster->base . "/$host";
	$net->add_host($host, '10.0.0.' . substr $host, 1);
	mkdir $_, 0755 foreach ($home, "$home/srv", "$home/run", "$home/run/postgresql");
	chown $cluster->{uid}, $cluster->{gid}, "$home/srv", "$home/run/postgresql";
}

# A shell of the servers' user on a machine, which has a /srv and a /run of its own.
sub shell
{
	my ($host, $commands) = @_;
	my $home = $cluster->base . "/$host";
	my $path = $cluster->bindir . ':/usr/local/bin:/usr/bin:/bin';

	return run_command(
		{ timeout => 120, env => { LC_ALL => 'C', LANG => undef, PGDATA => undef, PGHOST => undef } },
		$net->on($host), 'unshare', '--mount', '/bin/sh', '-c',
		"mount --bind $home/srv /srv && mount --bind $home/run /run && cd /srv && "
		  . "exec setpriv --reuid=$cluster->{uid} --regid=$cluster->{gid} --init-groups "
		  . 'env HOME=/srv PATH="$1" bash -e -c "$2"',
		'sh', $path, $commands);
}

my @blocks;
my $text = read_file($page);
while ($text =~ /^```sh +(\S+)\n(.*?)^```$/msg) { push @blocks, [ $1, $2 ] }
cmp_ok(scalar(@blocks), '>', 15, 'the page has commands');
is(scalar(() = $text =~ /^```/mg), 2 * @blocks, 'and each block says where it is typed');

my %out;
BLOCK:
foreach my $block (@blocks)
{
	my ($where, $commands) = @$block;
	my ($name) = $commands =~ /^(.*?)(?: \\)?$/m;

	foreach my $host ($where eq 'all' ? @hosts : ($where))
	{
		my $result = shell($host, $commands);
		ok($result->{ok}, "$host: $name") or do
		{
			diag("$result->{out}$result->{err}");
			diag("--- server.log of $_\n" . run_command({}, 'tail', '-n', 20, $cluster->base . "/$_/srv/server.log")->{out}) foreach @hosts;
			last BLOCK;
		};
		$out{$host} = $result->{out};

		# As init would; a postmaster that was killed has to be gone.
		1 while waitpid(-1, WNOHANG) > 0;
	}
}

# What was done has come of it.
my $rows = shell('n1', 'psql -U postgres -Atc "SELECT what FROM orders ORDER BY id"');
is($rows->{out}, "the first\nafter a failure\n", 'the rows are there');
like($out{n1}, qr/^ n1 /m, 'the status shows n1 in the end');
unlike($out{n1}, qr/^ n3 /m, 'and not n3');
is(shell('n1', 'psql -U postgres -Atc "SELECT count(DISTINCT leader) >= 2 FROM elector_history"')->{out}, "t\n", 'several have led');

done_testing();
