# The page for people, in a real browser: what it shows of a cluster, its dark and its
# narrow form, that texts of others are text, and what it says when nobody is at work.
use strict;
use warnings;

use Compress::Zlib qw(uncompress);
use ElectorCluster;
use ElectorHttp;
use ElectorProcess qw(run_command);
use Test::More;

my ($browser) = grep { -x $_ } map { ("$_/chromium-headless-shell", "$_/chromium") } split /:/, $ENV{PATH};
unless (ok(defined $browser, 'there is a browser (test/setup installs it)'))
{
	done_testing();
	exit;
}

# A TTL that outlasts the start of a browser on a small machine.
my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s',
	zones => { map { $_ => 'east' } qw(n1 n2 n3) },
	settings => { 'pg_elector.http_listen' => '*:8008' })->build;
my $home = $cluster->base . '/browser';
mkdir $home;
chown $cluster->{uid}, $cluster->{gid}, $home;

# The page after its scripts have run for some seconds of its own time; as another
# user than root, so without the sandbox that root could set up.
sub browse
{
	my ($node, @options) = @_;
	my $result = run_command(
		{ timeout => 120, env => { HOME => $home, XDG_RUNTIME_DIR => $home, LC_ALL => 'C.UTF-8', TZ => 'UTC' } },
		$cluster->as_user('client'), $browser, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
		'--disable-dev-shm-usage', '--hide-scrollbars', "--user-data-dir=$home/profile", '--virtual-time-budget=5000',
		@options, 'http://' . $cluster->address($node) . ':8008/');
	ok($result->{ok}, "the browser shows the page of $node") or diag($result->{err});
	return $result->{out};
}

# The document without its scripts and styles, which are source, not content.
sub content { return browse(@_, '--dump-dom') =~ s{<(script|style)>.*?</\1>}{}gsr }

# What stands in the rows of a table, cell by cell.
sub table
{
	my ($content, $id) = @_;
	my ($body) = $content =~ m{<table id="$id">.*?<tbody>(.*?)</tbody>}s or return;
	return map { [ m{<td[^>]*>(.*?)</td>}gs ] } $body =~ m{<tr[^>]*>(.*?)</tr>}gs;
}

# The first pixel of a screenshot: what comes before it in its row and above it is
# nothing, so none of the format's filters changes it.
sub background
{
	my ($path) = @_;
	my $image = read_file($path);
	my ($data, $at) = ('', 8);
	while ($at < length $image)
	{
		my ($length, $type) = unpack 'N a4', substr($image, $at, 8);
		$data .= substr($image, $at + 8, $length) if $type eq 'IDAT';
		$at += 12 + $length;
	}
	return join ',', unpack 'x C3', uncompress($data);
}

$cluster->psql('n2', q{SELECT elector_switchover('n2')}, timeout => 30);
$cluster->wait_for_follower($_) foreach qw(n1 n3);
$cluster->psql('n1', q{SELECT elector_pause('<img src=x onerror="document.title=1"> & <script>document.title=2</script>')});
$cluster->poll_until(sub { my $json = http_ask($cluster, 'n3', '/status')->{json}; $json->{paused} && $json->{leader} eq 'n2' }, 20, 'n3 to know');
$cluster->wait_for_status('n3', $_, { state => 'streaming', lag_bytes => qr/^\d+$/ }) foreach qw(n1 n3);

# Wide.
my $content = content('n3', '--window-size=1000,900');
like($content, qr{<title>orders: n2</title>}, 'the title: cluster and leader');
like($content, qr{<p id="leader" class="good">n2 leads</p>}, 'who leads');
like($content, qr{<p id="facts"[^>]*>seen by n3, term 2, durability async, paused</p>}, 'term, durability, pause');
like($content, qr{<p id="trouble" hidden="">}, 'no trouble');
my @members = table($content, 'members');
is(join(' ', map { "$_->[0]:$_->[1]:$_->[2]" } @members), 'n1:follower:streaming n2:leader:open n3:follower:streaming', 'the members');
is(join(' ', map { $_->[6] } @members), 'east east east', 'their zones');
like($members[0][4], qr/^\d[\d.]* k?B$/, 'the lag of a follower');
like($members[1][5], qr/^\d+\.\d s$/, 'the lease of the leader');
like($content, qr{<tr class="leads ?"><td[^>]*>n2</td>}, 'the leader stands out');
like($members[2][7], qr{&lt;img src=x onerror="document.title=1"&gt; &amp; &lt;script&gt;}, 'markup in a text of another is text');
unlike($content, qr{<img|<script}, 'and not in the document');

my @changes = table($content, 'changes');
is(join(' ', map { "$_->[0]:$_->[1]:$_->[3]:$_->[4]" } @changes), '2:n2:switchover:handed over 1:n1:first leader:none', 'the changes, the newest first');
like($changes[0][5], qr/^\d+ ms$|^\d+\.\d s$/, 'how long nobody took writes');

my @bars = $content =~ m{<rect [^>]*>}g;
is(scalar @bars, 2, 'a bar for each leadership');
like($bars[0], qr{class="past".* data-term="1" data-node="n1"}, 'that of the first leader is past');
like($bars[1], qr{class="now".* data-term="2" data-node="n2"}, 'that of the second is not');
my ($first, $second) = map { { m{\b(x|y|width)="([\d.]+)"}g } } @bars;
cmp_ok($first->{x} + $first->{width}, '<', $second->{x} + 3, 'one after the other');
cmp_ok($first->{y}, '<', $second->{y}, 'each in the line of its node');
my ($wide) = $content =~ m{viewBox="0 0 (\d+) };
cmp_ok($wide, '>', 800, "the drawing uses the width ($wide)");

# Narrow; and the elector of the node is stopped.
$cluster->psql('n1', 'SELECT elector_resume()');
$cluster->stop_worker('n3');
wait_for_http($cluster, 'n3', '/health', 503);
$content = content('n3', '--window-size=390,800');
my ($narrow) = $content =~ m{viewBox="0 0 (\d+) };
cmp_ok($narrow, '<', 390, "the drawing fits on a phone ($narrow)");
like($content, qr{<meta name="viewport" content="width=device-width}, 'and so does the text');
like($content, qr{<p id="trouble">The elector of n3 gives no sign for [\d.]+ s}, 'an elector that is stopped is trouble');
is((table($content, 'members'))[2][2], 'elector silent', 'as its state says');
$cluster->cont_worker('n3');

# Light and dark.
browse('n2', '--window-size=600,400', "--screenshot=$home/light.png");
browse('n2', '--window-size=600,400', "--screenshot=$home/dark.png", '--blink-settings=preferredColorScheme=0');
is(background("$home/light.png"), '251,251,252', 'light');
is(background("$home/dark.png"), '18,21,28', 'dark');

done_testing();
