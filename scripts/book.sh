#!/usr/bin/env bash
# Builds the documentation as a site: target/book, of what SUMMARY.md names.
#
# mdBook renders what lies below one directory, and copies all else that lies there. The documents refer
# to each other from all over the repository, so all files that git knows are put below one directory,
# each at its own place: every relative link leads in the site where it leads in the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

source=target/book-source
rm -rf "$source"
mkdir -p "$source"
git ls-files -z --cached --others --exclude-standard |
    xargs -0 cp --parents -t "$source"

# A link to a directory shows its README or what is in it, as it would on a forge.
find "$source" -mindepth 1 -type d | while read -r directory; do
    if [ -e "$directory/README.md" ]; then
        echo '<!DOCTYPE html><meta http-equiv="refresh" content="0; url=README.html">' >"$directory/index.html"
        continue
    fi
    {
        echo "<!DOCTYPE html><meta charset=\"utf-8\"><title>${directory#"$source/"}</title><ul>"
        for path in "$directory"/*; do
            name=$(basename "$path")
            target=${name/%.md/.html}
            [ ! -d "$path" ] || target=$name/
            echo "<li><a href=\"$target\">$name</a></li>"
        done
        echo "</ul>"
    } >"$directory/.index"
    mv "$directory/.index" "$directory/index.html"
done

mdbook build
