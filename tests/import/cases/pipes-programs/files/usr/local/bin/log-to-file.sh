#!/bin/sh
# writes every line it reads, with its arguments before it
echo "started with: $*"
while IFS= read -r line; do
	printf '[%s] %s\n' "$*" "$line" >>/var/log/prog.log
done
echo "end of input"
