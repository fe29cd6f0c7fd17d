#!/bin/sh
printf '%d:<%s>\n' $# "$1" >>/var/log/alert.log
