-- ARGV[2]: most entries that are removed.
return { 'swept', remove_expired(tonumber(ARGV[2])) }
