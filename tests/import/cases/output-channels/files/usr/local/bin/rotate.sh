#!/bin/sh
mv -f /var/log/rotated.log /var/log/rotated.log.1
