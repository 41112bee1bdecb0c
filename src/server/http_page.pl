#!/usr/bin/perl
#
# http_page.pl
#	  Make C of the page for people: page_text, and PAGE_POLICY, the content
#	  security policy that allows the script and the style in it and no others.
#
#	  http_page.pl http_page.html >http_page.inc
use strict;
use warnings;

use Digest::SHA qw(sha256_base64);

my ($path) = @ARGV;
open(my $in, '<:raw', $path) or die "could not read \"$path\": $!\n";
my $page = do { local $/; <$in> };

# The comment is for who reads the source.
$page =~ s/<!--.*?-->\n//s or die "the page has no comment\n";

# What stands between the tags, to the byte; base64 is padded.
sub hash
{
	my ($tag) = @_;
	my ($text) = $page =~ m{<\Q$tag\E>(.*?)</\Q$tag\E>}s or die "the page has no <$tag>\n";
	return "'sha256-" . sha256_base64($text) . "='";
}

my $policy = join '; ', "default-src 'none'", 'script-src ' . hash('script'),
  'style-src ' . hash('style'), "connect-src 'self'", "base-uri 'none'",
  "form-action 'none'", "frame-ancestors 'none'";

print "/* Made by http_page.pl; do not edit. */\n";
print "#define PAGE_POLICY \"$policy\"\n";
print "static const char page_text[] =\n";
foreach my $line (split /^/, $page)
{
	$line =~ s/(["\\?])/\\$1/g;
	$line =~ s/\t/\\t/g;
	$line =~ s/\n/\\n/;
	print "\"$line\"\n";
}
print ";\n";
