curl -X POST 'http://sl.vrgon.com:6060/v1/workflows/run' \
--header 'Authorization: Bearer {api_key}' \
--header 'Content-Type: application/json' \
--data-raw '{
"inputs": {
"prompt": "一个胸有成竹的男人",
"model_name": "chilloutmix_NiPrunedFp32Fix"
},
"response_mode": "blocking",
"user": "alg123"
}'
