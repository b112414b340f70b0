-- The fifth version: which requests were cut to fit the context, so that results made of earlier ones know it too.

ALTER TABLE samples ADD COLUMN cut INTEGER[];       -- places in request_hashes; NULL: none, or not known (older rows)
